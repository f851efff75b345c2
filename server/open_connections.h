#pragma once

#include <sys/types.h>

#include <string>
#include <unordered_map>

#include "absl/time/time.h"

namespace mea {

// Counts connections that others close without a word, as gRPC does. A descriptor stands for the
// connection that it was added for as long as its inode is the same. One thread.
class OpenConnections {
 public:
  explicit OpenConnections(int max_connections) : max_connections_(max_connections) {}

  // False where max_connections are open: `fd` is then not counted.
  [[nodiscard]] bool Add(int fd);
  // The open one whose client goes by this name in gRPC; -1 where there is none.
  int Find(const std::string& peer) const;

 private:
  void DropClosed();

  const int max_connections_;
  std::unordered_map<int, ino_t> inodes_;  // by descriptor; closed ones too, until room is wanted
  absl::Time next_look_ = absl::InfinitePast();
};

}  // namespace mea
