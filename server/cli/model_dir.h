#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "absl/status/status.h"

namespace mea {

// The transform of an option that names a checkpoint: a repository's directory in Hugging Face's
// cache becomes the snapshot in it.
CLI::Validator CheckpointDir();

// NOT_FOUND where there is no such directory, with how to get a model: people expect that a name on
// Hugging Face is enough. What is in it is not looked at.
absl::Status CheckModelDir(const std::string& dir);

}  // namespace mea
