#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "engine/model/config.h"
#include "engine/model/weights.h"
#include "kernels/backend.h"

namespace mea {

// Random weights in host memory, for measuring speed and memory without a checkpoint. Matrices are
// uniform, with the variance that keeps activations of order one; gains are near one. Each tensor
// depends only on the seed and its place in the model, not on the number of threads.
// RESOURCE_EXHAUSTED when memory runs out.
absl::StatusOr<ModelWeights> MakeRandomWeights(const ModelConfig& config, DType matrix_dtype,
                                               uint64_t seed, int num_threads,
                                               const LoadProgress& progress = {});

// The same in a device's memory, made there as fast as it can be written: the numbers of a matrix
// repeat (kernels/random_fill.h). Matrices have the back end's dtype, and those of one product are
// adjacent.
absl::StatusOr<ModelWeights> MakeRandomWeightsOn(Backend& backend, const ModelConfig& config,
                                                 uint64_t seed, const LoadProgress& progress = {});

// ModelWeights::num_bytes of either, without making them.
int64_t PlannedRandomWeightBytes(const ModelConfig& config, DType matrix_dtype);

}  // namespace mea
