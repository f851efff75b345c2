#include "server/access/file_watch.h"

#include <string>
#include <utility>

namespace mea {

FileWatch::FileWatch(std::shared_ptr<Certificates> certificates, Log& log, absl::Duration period)
    : certificates_(std::move(certificates)), log_(log) {
  if (!certificates_) return;
  thread_ = std::thread([this, period] {
    while (!stop_.WaitForNotificationWithTimeout(period)) Look();
  });
}

FileWatch::~FileWatch() {
  stop_.Notify();
  if (thread_.joinable()) thread_.join();
}

void FileWatch::Look() {
  if (certificates_) {
    const absl::StatusOr<bool> taken = certificates_->Refresh();
    if (!taken.ok()) {
      log_.Write(LogLevel::kWarning, "certificate not taken",
                 {{"message", std::string(taken.status().message())}});
    } else if (*taken) {
      log_.Write(LogLevel::kInfo, "certificate taken",
                 {{"not_after", absl::FormatTime(certificates_->state()->not_after)}});
    }
  }
}

}  // namespace mea
