#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "engine/weights/load_tensors.h"
#include "engine/weights/packed_matrix.h"

namespace mea {

// One tensor of the list and what the checkpoint has for it.
struct LoadTask {
  const TensorSpec* spec = nullptr;
  const StoredTensor* whole = nullptr;  // as the checkpoint has it: of a packed one its integers
  StoredTensor stored;                  // the rows of it that are wanted
  DType dtype = DType::kF32;            // of the view
  std::optional<PackedMatrix> packed;   // where the checkpoint packs it

  // Whether the view looks into the checkpoint's own pages.
  bool is_in_place() const;
  int64_t bytes_in_memory() const;  // of the view
};

// A task for every tensor of the list, those that others are computed with first; or the first
// mismatch, as LoadTensors says.
absl::StatusOr<std::vector<LoadTask>> MatchTensors(const SafeTensors& tensors,
                                                   const TensorList& list,
                                                   const IsHarmless& is_harmless,
                                                   const std::optional<PackedFormat>& packed,
                                                   const LoadOptions& options);

}  // namespace mea
