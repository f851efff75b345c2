#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace mea {

// All of a file that an operator keeps by hand: keys, certificates. NOT_FOUND or what else the
// system says, INVALID_ARGUMENT beyond `max_bytes`; each message names the file.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path, int64_t max_bytes);

}  // namespace mea
