#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/config/config.h"
#include "engine/storage/safetensors.h"

namespace mea {

// A checkpoint directory as Hugging Face writes it, read but not loaded: config.json,
// generation_config.json if there is one, and the headers of its safetensors files.
struct Checkpoint {
  std::filesystem::path dir;
  ModelConfig config;  // layer_heads agree with the W_lc tensors that are there
  GenerationDefaults generation;
  SafeTensors tensors;
  std::vector<std::string> warnings;  // one line each: where the files contradict each other
};

// NOT_FOUND for missing files, UNIMPLEMENTED for known features that are not served,
// INVALID_ARGUMENT for anything broken; always one line naming file, field or tensor, expected and
// found. `generation_config` as ReadGenerationDefaults takes it.
absl::StatusOr<Checkpoint> OpenCheckpoint(const std::filesystem::path& dir,
                                          const std::string& generation_config = "");

}  // namespace mea
