#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace mea {

struct ConversionResult {
  int64_t num_non_finite = 0;  // infinities and NaNs in the source
  int64_t num_overflows = 0;   // finite values that the narrower format cannot hold
};

// `count` elements from `from`, which need not be aligned, to `to`, which is. Both dtypes are among
// f32, bf16 and f16; narrowing rounds to nearest, ties to even.
ConversionResult ConvertDType(const void* from, DType from_dtype, void* to, DType to_dtype,
                              int64_t count);

}  // namespace mea
