#pragma once

#include <filesystem>
#include <string>

#include "absl/status/statusor.h"

namespace mea {

// Hugging Face's cache keeps a repository as models--ORG--NAME/{refs,snapshots/HASH}. For such a
// directory returns the snapshot that refs/main names, or the only one; INVALID_ARGUMENT if there
// is neither. Returns any other path unchanged.
absl::StatusOr<std::filesystem::path> SnapshotOf(const std::filesystem::path& dir);

// The name of a checkpoint: "ORG/NAME" for a snapshot in such a cache, else its directory's name.
std::string CheckpointName(const std::filesystem::path& dir);

}  // namespace mea
