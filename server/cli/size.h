#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "engine/device.h"

namespace mea {

// "512", "1.5GiB", "4Gi", "24G", "800 MB": bytes. KB, MB, GB, TB are powers of 1000, KiB.., Ki..
// and K.. of 1024. INVALID_ARGUMENT naming `flag` and the text.
absl::StatusOr<int64_t> ParseSize(const std::string& flag, const std::string& text);

// The limits in one line, as `mea plan` and `mea inspect` show them.
std::string MachineText(const MachineLimits& machine);

}  // namespace mea
