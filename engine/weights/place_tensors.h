#pragma once

#include "absl/status/statusor.h"
#include "engine/weights/tensor_spec.h"
#include "engine/weights/weights.h"
#include "kernels/backend.h"

namespace mea {

// A copy of a host tensor in the back end's memory; on the host, the tensor itself is copied too.
absl::StatusOr<Tensor> Place(TensorView host, Backend& backend);

// The tensors of the checkpoint that nobody has looked at yet, by the data of their views.
using Unchecked = std::unordered_map<const void*, const StoredTensor*>;

// Copies every listed tensor that is there to a device, those that join side by side; their views
// then look into memory that `weights` keeps and counts. Refuses unchecked ones that are not
// finite. `bytes_total` is what progress is told.
absl::Status PlaceTensors(const TensorList& list, const Unchecked& unchecked, int64_t bytes_total,
                          Backend& backend, const LoadProgress& progress, ModelWeights& weights);

}  // namespace mea
