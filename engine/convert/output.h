#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/convert/layer_weights.h"

namespace mea::convert {

// How many component heads each layer keeps, and whether W_lc composes them.
using LayerPlan = std::vector<LayerHeads>;

// What a conversion changes.
struct OutputPlan {
  LayerPlan heads;
  std::vector<bool> healed;  // [num_layers] whose matrices are refitted; empty: none
};

// The composed weights of one layer.
using LayerSource = std::function<absl::StatusOr<LayerMatrices>(int layer)>;
using BytesWritten = std::function<absl::Status(int64_t bytes_done, int64_t bytes_total)>;

// Writes the MEA checkpoint made from `in`, plain or MEA, into `dir`, which exists and is empty:
// config.json, the shards of `in` (each with its tensors, composed ones in their place, W_lc after
// its projection), their index, and copies of tokenizer and generation files. Tensors outside of
// composed and healed layers are copied byte for byte; composed ones come from `source`, a layer at
// a time, rounded to the dtype they had; W_lc is F32. The config.json of an MEA checkpoint is
// copied: the plan has its heads. Every file is on the disk when it returns.
absl::Status WriteCheckpoint(const Checkpoint& in, const OutputPlan& plan,
                             const LayerSource& source, const std::filesystem::path& dir,
                             const BytesWritten& progress = {});

}  // namespace mea::convert
