#pragma once

#include <string_view>

#include "absl/status/status.h"

namespace mea {

// The flags of the server's addresses, as statuses name them; Server::CheckAddresses is here too.
inline constexpr std::string_view kListenFlag = "--listen";
inline constexpr std::string_view kAdminFlag = "--admin";
inline constexpr std::string_view kHttpFlag = "--http";

// "--http 127.0.0.1:80: Permission denied"
absl::Status OfFlag(std::string_view flag, const absl::Status& status);

}  // namespace mea
