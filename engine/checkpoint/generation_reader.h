#pragma once

#include <filesystem>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/model/config.h"

namespace mea {

// Reads generation_config.json; `config` bounds the token ids and supplies those it leaves out.
// Unknown fields are ignored. `file` is what messages call the text.
absl::StatusOr<GenerationDefaults> ParseGenerationDefaults(std::string_view text,
                                                           const std::string& file,
                                                           const ModelConfig& config);
// The defaults of an empty file where there is none.
absl::StatusOr<GenerationDefaults> ReadGenerationDefaults(const std::filesystem::path& file,
                                                          const ModelConfig& config);

}  // namespace mea
