#pragma once

#include <cstdint>

#include "absl/status/statusor.h"

namespace mea {

// Each client takes a file descriptor. This is how many each port may have, so that no port can
// exhaust those of another or of the server itself.
struct ConnectionLimits {
  int grpc = 0;
  int http = 0;
  int admin = 0;
};

// FAILED_PRECONDITION if the limit leaves too few for clients.
absl::StatusOr<ConnectionLimits> ConnectionLimitsOf(int64_t max_descriptors);

// The current RLIMIT_NOFILE of this process.
int64_t MaxDescriptors();
// Raises it to what the system allows: the usual limit of 1024 is for programs that use select().
void RaiseMaxDescriptors();

}  // namespace mea
