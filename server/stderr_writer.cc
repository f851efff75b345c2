#include "server/stderr_writer.h"
#include "engine/clock.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

namespace mea {
namespace {

constexpr int kWaitMs = 50;  // between two checks of the deadline

}  // namespace

void StderrWriter::Write(std::string_view text) {
  while (!text.empty()) {
    pollfd ready = {STDERR_FILENO, POLLOUT, 0};
    const bool is_late = absl::ToUnixNanos(Now()) >= deadline_ns_;
    if (poll(&ready, 1, is_late ? 0 : kWaitMs) == 0) {
      if (is_late) return;
      continue;
    }
    // A pipe that is ready accepts this many bytes without blocking.
    const ssize_t written =
        write(STDERR_FILENO, text.data(), std::min<size_t>(text.size(), PIPE_BUF));
    if (written >= 0) {
      text.remove_prefix(written);
    } else if (errno != EINTR && errno != EAGAIN) {
      return;  // nobody reads any more
    }
  }
}

}  // namespace mea
