#pragma once

#include <filesystem>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/config/config.h"

namespace mea {

// Reads config.json of a llama, mistral, mixtral, qwen2, qwen3 or qwen3_moe checkpoint, or of an
// MEA checkpoint based on one of them. Fields that transformers would default are defaulted alike;
// unknown fields are ignored, except inside head_composition; fields that would change the
// mathematics in a way not served are refused. `file` is what messages call the text. Where h' = h,
// key_mix and value_mix are left false: only the tensors tell (OpenCheckpoint asks them).
absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view json, const std::string& file);
absl::StatusOr<ModelConfig> ReadModelConfig(const std::filesystem::path& file);

}  // namespace mea
