#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace mea {

// "512", "1.5GiB", "24G", "800 MB": bytes. KB, MB, GB, TB are powers of 1000, KiB.. and K.. of
// 1024. INVALID_ARGUMENT naming `flag` and the text.
absl::StatusOr<int64_t> ParseSize(const std::string& flag, const std::string& text);

int64_t PhysicalMemoryBytes();  // of this machine

}  // namespace mea
