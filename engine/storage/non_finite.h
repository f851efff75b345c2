#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "engine/storage/safetensors.h"
#include "kernels/dtype.h"

namespace mea {

// The index of the first infinity or NaN among `count` elements (f32, bf16 or f16) at any address;
// -1 if all are finite. Reads at memory speed, on one thread.
int64_t FindNonFinite(const void* elements, DType dtype, int64_t count);

// The refusal of a tensor that has one; shows the first in `stored`. `dtype` is the dtype in which
// the tensor was to be loaded.
absl::Status NonFiniteError(const StoredTensor& stored, DType dtype);

}  // namespace mea
