#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "engine/storage/safetensors.h"
#include "kernels/dtype.h"

namespace mea {

// The index of an infinity or NaN among `count` elements (f32, bf16 or f16) at any address, the
// first of its kind in memory; -1 where all are finite. Reads at the rate of the memory, on one
// thread.
int64_t FindNonFinite(const void* elements, DType dtype, int64_t count);

// The refusal of a tensor that has one, as the first of `stored` shows it; `dtype` is what the
// tensor was to be loaded in.
absl::Status NonFiniteError(const StoredTensor& stored, DType dtype);

}  // namespace mea
