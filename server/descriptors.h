#pragma once

#include <cstdint>

#include "absl/status/statusor.h"

namespace mea {

// Each client takes a file descriptor. How many of them each port may have, so that none can leave
// another, or the server itself, without.
struct ConnectionLimits {
  int grpc = 0;
  int http = 0;
  int admin = 0;
};

// FAILED_PRECONDITION where the limit leaves too few for clients.
absl::StatusOr<ConnectionLimits> ConnectionLimitsOf(int64_t max_descriptors);

// Of this process, as RLIMIT_NOFILE has it now.
int64_t MaxDescriptors();
// To what the system allows: the usual limit of 1024 is for programs that use select().
void RaiseMaxDescriptors();

}  // namespace mea
