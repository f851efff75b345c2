#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "engine/weights/tensor_spec.h"
#include "engine/weights/weights.h"
#include "kernels/backend.h"

namespace mea {

// Makes every listed tensor up, in host memory. Matrices are uniform with the variance that keeps
// activations of order one; gains are near one. A tensor depends on the seed and its place in the
// list alone, not on the number of threads. RESOURCE_EXHAUSTED when memory runs out.
absl::Status MakeRandomTensors(const TensorList& list, DType matrix_dtype, uint64_t seed,
                               int num_threads, const LoadProgress& progress,
                               ModelWeights& weights);

// The same in a device's memory, made there in no more time than it takes to write: the numbers of
// a matrix repeat themselves (kernels/random_fill.h). Matrices in the dtype that the back end
// wants, those that join side by side.
absl::Status MakeRandomTensorsOn(Backend& backend, const TensorList& list, uint64_t seed,
                                 const LoadProgress& progress, ModelWeights& weights);

// What either adds to ModelWeights::num_bytes.
int64_t PlannedRandomTensorBytes(const TensorList& list, DType matrix_dtype);

}  // namespace mea
