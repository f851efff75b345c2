#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "engine/model/config.h"
#include "engine/model/weights.h"
#include "kernels/backend.h"

namespace mea {

// Weights of a model that nobody trained, in host memory: for measuring speed and memory where
// there is no checkpoint to bring. Matrices are uniform with the variance that keeps activations of
// order one; gains are near one. Each tensor depends on the seed and its place in the model alone,
// not on the number of threads. RESOURCE_EXHAUSTED when memory runs out.
absl::StatusOr<ModelWeights> MakeRandomWeights(const ModelConfig& config, DType matrix_dtype,
                                               uint64_t seed, int num_threads,
                                               const LoadProgress& progress = {});

// The same in a device's memory, made there in no more time than it takes to write: the numbers of
// a matrix repeat themselves (kernels/random_fill.h). Matrices in the dtype that the back end
// wants, those of one product side by side.
absl::StatusOr<ModelWeights> MakeRandomWeightsOn(Backend& backend, const ModelConfig& config,
                                                 uint64_t seed, const LoadProgress& progress = {});

// ModelWeights::num_bytes of either, without making them.
int64_t PlannedRandomWeightBytes(const ModelConfig& config, DType matrix_dtype);

}  // namespace mea
