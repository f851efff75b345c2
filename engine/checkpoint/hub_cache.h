#pragma once

#include <filesystem>
#include <string>

#include "absl/status/statusor.h"

namespace mea {

// Hugging Face's cache keeps a repository as models--ORG--NAME/{refs,snapshots/HASH}. For such a
// directory returns the snapshot that refs/main names, or the only one; INVALID_ARGUMENT if there
// is neither. Returns any other path unchanged.
absl::StatusOr<std::filesystem::path> SnapshotOf(const std::filesystem::path& dir);

// What to call a checkpoint: "ORG/NAME" of a snapshot in such a cache, else the directory's name as
// it was typed: of a link the link's own.
std::string CheckpointName(const std::filesystem::path& dir);

}  // namespace mea
