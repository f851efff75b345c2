#pragma once

#include <filesystem>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/config/config.h"

namespace mea {

// Reads generation_config.json; `config` bounds the token ids and supplies those it leaves out.
// Unknown fields are ignored. `file` is what messages call the text.
absl::StatusOr<GenerationDefaults> ParseGenerationDefaults(std::string_view text,
                                                           const std::string& file,
                                                           const ModelConfig& config);
// Of the checkpoint in `dir`, whose file need not be there. `choice` is empty, or "none": only the
// end tokens count, or a file in its place.
absl::StatusOr<GenerationDefaults> ReadGenerationDefaults(const std::filesystem::path& dir,
                                                          const ModelConfig& config,
                                                          const std::string& choice = "");

}  // namespace mea
