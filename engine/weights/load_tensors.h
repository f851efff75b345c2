#pragma once

#include <functional>
#include <optional>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/config/packed_format.h"
#include "engine/storage/safetensors.h"
#include "engine/weights/tensor_spec.h"
#include "engine/weights/weights.h"

namespace mea {

// Whether a tensor that is not listed may be there all the same.
using IsHarmless = std::function<bool(std::string_view name)>;

// Loads every listed tensor into its view, whose memory `weights` keeps. Refuses what is missing,
// extra, misshapen, of a wrong dtype or not finite, in one line with file, tensor, expected and
// found. Matrices kept in their dtype are views of the mapped file: no copy. `packed` is how the
// checkpoint packs matrices, if it does.
absl::Status LoadTensors(const SafeTensors& tensors, const TensorList& list,
                         const IsHarmless& is_harmless, const std::optional<PackedFormat>& packed,
                         const LoadOptions& options, const LoadProgress& progress,
                         ModelWeights& weights);

// ModelWeights::num_bytes that LoadTensors would add, from the headers of the files alone; refuses
// what they show.
absl::StatusOr<int64_t> PlannedTensorBytes(const SafeTensors& tensors, const TensorList& list,
                                           const IsHarmless& is_harmless,
                                           const std::optional<PackedFormat>& packed,
                                           const LoadOptions& options);

}  // namespace mea
