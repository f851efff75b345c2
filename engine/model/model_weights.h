#pragma once

#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/config/config.h"
#include "engine/model/stage_place.h"
#include "engine/weights/tensor_spec.h"
#include "engine/weights/weights.h"
#include "kernels/backend.h"

// Every tensor of a model is listed once, by ListTensors; what follows does something with each.
namespace mea {

// The tensors that this configuration calls for, with views into `weights`, whose layers and
// experts it makes where they are not there.
TensorList ListTensors(const ModelConfig& config, ModelWeights& weights);
// Of these layers alone, with the embedding or the output if they go with them. An output that is
// tied to an embedding elsewhere is a tensor of its own.
TensorList ListTensors(const ModelConfig& config, LayerRange layers, ModelWeights& weights);

// Reads them from a checkpoint; statuses as of LoadTensors.
absl::StatusOr<ModelWeights> LoadWeights(const Checkpoint& checkpoint,
                                         const LoadOptions& options = {},
                                         const LoadProgress& progress = {});
// ModelWeights::num_bytes of what LoadWeights would give, from the headers of the checkpoint alone;
// refuses what they show.
absl::StatusOr<int64_t> PlannedWeightBytes(const Checkpoint& checkpoint,
                                           const LoadOptions& options = {});
// The part of these layers.
absl::StatusOr<int64_t> PlannedWeightBytes(const Checkpoint& checkpoint, LayerRange layers,
                                           const LoadOptions& options = {});

// The weights where the back ends read them. Those that are there already stay where they are. On
// devices every tensor is copied; then nothing of the host's is needed any more.
absl::StatusOr<ModelWeights> PlaceWeights(const ModelConfig& config, ModelWeights host,
                                          std::span<const StagePlace> places,
                                          const LoadProgress& progress = {});

// Weights of a model that nobody trained: for measuring speed and memory where there is no
// checkpoint to bring. See random_tensors.h.
absl::StatusOr<ModelWeights> MakeRandomWeights(const ModelConfig& config, DType matrix_dtype,
                                               uint64_t seed, int num_threads,
                                               const LoadProgress& progress = {});
absl::StatusOr<ModelWeights> MakeRandomWeightsOn(std::span<const StagePlace> places,
                                                 const ModelConfig& config, uint64_t seed,
                                                 const LoadProgress& progress = {});
// ModelWeights::num_bytes of either, of these layers, without making them.
int64_t PlannedRandomWeightBytes(const ModelConfig& config, LayerRange layers, DType matrix_dtype);

}  // namespace mea
