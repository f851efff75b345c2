#include "server/cli/load_log.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/clock.h"
#include "kernels/human_bytes.h"

namespace mea {
namespace {

// After two seconds without output people wonder whether the program hangs.
constexpr absl::Duration kLoadLogPeriod = absl::Milliseconds(1500);

}  // namespace

LoadLog::LoadLog(std::string model, Log& log)
    : model_(std::move(model)), log_(log), start_(Now()), thread_([this] { Run(); }) {}

LoadLog::~LoadLog() {
  stop_.Notify();
  thread_.join();
}

void LoadLog::Show(std::string_view step, int64_t bytes_done, int64_t bytes_total) {
  absl::MutexLock lock(&mu_);
  step_ = step;
  bytes_done_ = bytes_done;
  bytes_total_ = bytes_total;
}

void LoadLog::Run() {
  while (!stop_.WaitForNotificationWithTimeout(kLoadLogPeriod)) {
    log_.Write(LogLevel::kInfo, "loading",
               {{"model", model_}, {"step", Step()}, {"elapsed_ms", Now() - start_}});
  }
}

// "weights, 43 % of 1.80 GiB".
std::string LoadLog::Step() const {
  absl::MutexLock lock(&mu_);
  std::string text(step_);
  if (bytes_total_ == 0) return text;
  absl::StrAppend(&text, ", ");
  if (bytes_done_ > 0) {
    absl::StrAppendFormat(
        &text, "%.0f %% of ",
        100.0 * static_cast<double>(bytes_done_) / static_cast<double>(bytes_total_));
  }
  return absl::StrCat(text, HumanBytes(bytes_total_));
}

}  // namespace mea
