#include "server/cli/progress.h"

#include <unistd.h>

#include <cstdio>

#include "absl/time/clock.h"
#include "server/status_page.h"

namespace mea {
namespace {

constexpr absl::Duration kTerminalPeriod = absl::Milliseconds(100);
constexpr absl::Duration kLogPeriod = absl::Seconds(5);

}  // namespace

ProgressLine::ProgressLine() : terminal_(isatty(STDERR_FILENO) == 1), last_(absl::Now()) {}

ProgressLine::~ProgressLine() {
  if (terminal_) std::fputs("\r\033[K", stderr);
}

void ProgressLine::Show(int64_t bytes_done, int64_t bytes_total) {
  if (absl::Now() - last_ < (terminal_ ? kTerminalPeriod : kLogPeriod)) return;
  last_ = absl::Now();
  const double percent =
      bytes_total > 0 ? 100.0 * static_cast<double>(bytes_done) / static_cast<double>(bytes_total)
                      : 0;
  std::fprintf(stderr, "%sloading: %.0f %% of %s%s", terminal_ ? "\r\033[K" : "", percent,
               HumanBytes(bytes_total).c_str(), terminal_ ? "" : "\n");
}

}  // namespace mea
