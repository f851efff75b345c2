#pragma once

#include <CLI/CLI.hpp>

namespace mea {

// The transform of an option that names a checkpoint: a repository's directory in Hugging Face's
// cache becomes the snapshot in it.
CLI::Validator CheckpointDir();

}  // namespace mea
