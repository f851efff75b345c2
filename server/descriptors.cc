#include "server/descriptors.h"

#include <sys/resource.h>

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"

namespace mea {
namespace {

constexpr int64_t kReserved = 64;  // for files, listeners, epoll and libraries
constexpr int64_t kMinClients = 32;
constexpr int64_t kMaxConnections = 4096;  // of a port
constexpr int64_t kMaxAdminConnections = 256;

}  // namespace

absl::StatusOr<ConnectionLimits> ConnectionLimitsOf(int64_t max_descriptors) {
  const int64_t clients = max_descriptors - kReserved;
  if (clients < kMinClients) {
    return absl::FailedPreconditionError(absl::StrCat("ulimit -n ", max_descriptors,
                                                      ": a server needs at least ",
                                                      kReserved + kMinClients, " open files"));
  }
  const int64_t admin = std::min(clients / 8, kMaxAdminConnections);
  const int64_t each = std::min((clients - admin) / 2, kMaxConnections);
  return ConnectionLimits{static_cast<int>(each), static_cast<int>(each), static_cast<int>(admin)};
}

int64_t MaxDescriptors() {
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur == RLIM_INFINITY) {
    return std::numeric_limits<int32_t>::max();
  }
  return static_cast<int64_t>(files.rlim_cur);
}

void RaiseMaxDescriptors() {
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
}

}  // namespace mea
