#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace mea {

// The contents of a file that an operator maintains: keys, certificates. NOT_FOUND or another error
// of the system, INVALID_ARGUMENT beyond `max_bytes`; each message names the file.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path, int64_t max_bytes);

}  // namespace mea
