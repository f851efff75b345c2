#pragma once

#include <filesystem>
#include <string>

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"

namespace mea::convert {

// What tells an input from another, or from itself before it was changed: of a checkpoint its
// config.json, and names, headers, sizes and times of its weight files; of a text all its bytes. A
// few hexadecimal digits, no protection against anybody.
absl::StatusOr<std::string> CheckpointFingerprint(const Checkpoint& checkpoint);
absl::StatusOr<std::string> FileFingerprint(const std::filesystem::path& file);

}  // namespace mea::convert
