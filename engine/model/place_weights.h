#pragma once

#include "absl/status/statusor.h"
#include "engine/model/weights.h"
#include "kernels/backend.h"

namespace mea {

// A copy of a host tensor in the back end's memory; also a copy if that is the host's.
absl::StatusOr<Tensor> Place(TensorView host, Backend& backend);

// The weights where the back end reads them. Those that are there already stay. On a device every
// tensor is copied, with the matrices of one product adjacent (q, k, v; gate, up) and in the back
// end's dtype; after that the host's copy is not needed any more.
absl::StatusOr<ModelWeights> PlaceWeights(ModelWeights host, Backend& backend,
                                          const LoadProgress& progress = {});

}  // namespace mea
