#include "server/open_connections.h"

#include <sys/stat.h>

#include <iterator>

#include "absl/time/clock.h"

namespace mea {
namespace {

// A flood at the bound must not cost a look at every descriptor for each of its connections.
constexpr absl::Duration kLookPeriod = absl::Milliseconds(20);

ino_t InodeOf(int fd) {
  struct stat status {};
  return fstat(fd, &status) == 0 ? status.st_ino : 0;
}

}  // namespace

bool OpenConnections::Add(int fd) {
  inodes_.erase(fd);  // whoever had the number before has gone
  if (std::ssize(inodes_) >= max_connections_) DropClosed();
  if (std::ssize(inodes_) >= max_connections_) return false;
  inodes_[fd] = InodeOf(fd);
  return true;
}

void OpenConnections::DropClosed() {
  const absl::Time now = absl::Now();
  if (now < next_look_) return;
  next_look_ = now + kLookPeriod;
  std::erase_if(inodes_, [](const auto& open) { return InodeOf(open.first) != open.second; });
}

}  // namespace mea
