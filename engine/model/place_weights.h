#pragma once

#include "absl/status/statusor.h"
#include "engine/model/weights.h"
#include "kernels/backend.h"

namespace mea {

// A copy of a host tensor in the back end's memory; on the host, the tensor itself is copied too.
absl::StatusOr<Tensor> Place(TensorView host, Backend& backend);

// The weights where the back end reads them. Those that are there already stay where they are. On a
// device every tensor is copied, matrices of one product side by side (q, k, v; gate, up) and in
// the dtype that the back end wants; then nothing of the host's is needed any more.
absl::StatusOr<ModelWeights> PlaceWeights(ModelWeights host, Backend& backend,
                                          const LoadProgress& progress = {});

}  // namespace mea
