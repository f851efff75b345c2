#pragma once

#include <sys/types.h>

#include <string>
#include <unordered_map>

#include "absl/time/time.h"

namespace mea {

// Counts connections that others, such as gRPC, close silently. A descriptor stands for the
// connection that it was added for while its inode stays the same. One thread.
class OpenConnections {
 public:
  explicit OpenConnections(int max_connections) : max_connections_(max_connections) {}

  // False if max_connections are open: then `fd` is not counted.
  [[nodiscard]] bool Add(int fd);
  // The open connection whose client has this name in gRPC; -1 if there is none.
  int Find(const std::string& peer) const;

 private:
  void DropClosed();

  const int max_connections_;
  std::unordered_map<int, ino_t> inodes_;  // by descriptor; also closed ones, until room is needed
  absl::Time next_look_ = absl::InfinitePast();
};

}  // namespace mea
