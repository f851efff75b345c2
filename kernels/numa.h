#pragma once

#include <cstdint>
#include <span>

#include "absl/status/status.h"

namespace mea {

// Pages that this thread and those that it starts from now on are the first to use come from each
// of the nodes in turn, pages of files that they read included.
absl::Status InterleaveNewPages(std::span<const int> nodes);

// The whole pages of [data, data + bytes) go to `node`, now if they are there and otherwise at
// their first use; for a mapped file only those that no other process maps. Advice: it may do
// nothing.
void MovePages(const void* data, int64_t bytes, int node);

}  // namespace mea
