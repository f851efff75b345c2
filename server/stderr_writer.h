#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <string_view>

#include "absl/time/time.h"

namespace mea {

// Writes to stderr, which may be a pipe that nobody reads.
class StderrWriter {
 public:
  // Waits for the reader as long as it takes; after End only until its deadline, then drops the
  // rest. One thread at a time.
  void Write(std::string_view text);
  // Any thread, while another may be writing.
  void End(absl::Time deadline) { deadline_ns_ = absl::ToUnixNanos(deadline); }

 private:
  std::atomic<int64_t> deadline_ns_ = std::numeric_limits<int64_t>::max();
};

}  // namespace mea
