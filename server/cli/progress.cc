#include "server/cli/progress.h"

#include <unistd.h>

#include <cstdio>

#include "engine/clock.h"

namespace mea {
namespace {

constexpr absl::Duration kTerminalPeriod = absl::Milliseconds(100);
constexpr absl::Duration kLogPeriod = absl::Seconds(5);

}  // namespace

ProgressLine::ProgressLine() : terminal_(isatty(STDERR_FILENO) == 1), last_(Now()) {}

ProgressLine::~ProgressLine() { Clear(); }

void ProgressLine::Clear() {
  if (terminal_) std::fputs("\r\033[K", stderr);
}

void ProgressLine::ShowStage(std::string_view stage, int64_t done, int64_t total) {
  if (Now() - last_ < (terminal_ ? kTerminalPeriod : kLogPeriod)) return;
  last_ = Now();
  const double percent =
      total > 0 ? 100.0 * static_cast<double>(done) / static_cast<double>(total) : 0;
  std::fprintf(stderr, "%s%.*s: %.0f %% of %lld%s", terminal_ ? "\r\033[K" : "",
               static_cast<int>(stage.size()), stage.data(), percent, static_cast<long long>(total),
               terminal_ ? "" : "\n");
}

}  // namespace mea
