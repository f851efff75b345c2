#pragma once

#include <filesystem>
#include <string>

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"

namespace mea::convert {

// Identifies an input and its version: for a checkpoint its config.json, and names, headers, sizes
// and times of its weight files; for a text all its bytes. A few hexadecimal digits; not secure
// against forgery.
absl::StatusOr<std::string> CheckpointFingerprint(const Checkpoint& checkpoint);
absl::StatusOr<std::string> FileFingerprint(const std::filesystem::path& file);

}  // namespace mea::convert
