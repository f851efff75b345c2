#pragma once

#include <filesystem>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/config/config.h"

namespace mea {

// Reads generation_config.json; `config` bounds the token ids and supplies those it leaves out.
// Unknown fields are ignored. `file` names the text in messages.
absl::StatusOr<GenerationDefaults> ParseGenerationDefaults(std::string_view text,
                                                           const std::string& file,
                                                           const ModelConfig& config);
// The same for the checkpoint in `dir`; its file is optional. `choice` is empty, "none" (only the
// end tokens count), or a file to read instead.
absl::StatusOr<GenerationDefaults> ReadGenerationDefaults(const std::filesystem::path& dir,
                                                          const ModelConfig& config,
                                                          const std::string& choice = "");

}  // namespace mea
