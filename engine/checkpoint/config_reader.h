#pragma once

#include <filesystem>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/config/config.h"

namespace mea {

// Reads config.json of a checkpoint of one of the families (engine/family), or of an
// MEA checkpoint based on one of them. Absent fields get transformers' defaults; unknown fields are
// ignored, except inside head_composition; fields that would change the mathematics in a way that
// is not served are refused. `file` names the text in messages. If h' = h, key_mix and value_mix
// stay false: only the tensors can tell (OpenCheckpoint checks them).
absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view json, const std::string& file);
absl::StatusOr<ModelConfig> ReadModelConfig(const std::filesystem::path& file);

}  // namespace mea
