#pragma once

#include <string_view>

#include "absl/status/status.h"

namespace mea {

// Tells systemd what its service does: "READY=1", "STOPPING=1" (sd_notify(3)). Does nothing where
// the environment names no NOTIFY_SOCKET.
absl::Status TellSupervisor(std::string_view state);

}  // namespace mea
