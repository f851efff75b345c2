#include "server/access/file_watch.h"

#include <string>
#include <utility>

namespace mea {

FileWatch::FileWatch(std::shared_ptr<Certificates> certificates, std::shared_ptr<Access> access,
                     Log& log, absl::Duration period)
    : certificates_(std::move(certificates)), access_(std::move(access)), log_(log) {
  if (!certificates_ && !access_->has_keys()) return;
  thread_ = std::thread([this, period] {
    while (!stop_.WaitForNotificationWithTimeout(period)) Look();
  });
}

FileWatch::~FileWatch() {
  stop_.Notify();
  if (thread_.joinable()) thread_.join();
}

void FileWatch::Look() {
  const auto taken = [this](const absl::StatusOr<bool>& refreshed, const char* failure) {
    if (refreshed.ok()) return *refreshed;
    log_.Write(LogLevel::kWarning, failure,
               {{"message", std::string(refreshed.status().message())}});
    return false;
  };
  if (certificates_ && taken(certificates_->Refresh(), "certificate not taken")) {
    log_.Write(LogLevel::kInfo, "certificate taken",
               {{"not_after", absl::FormatTime(certificates_->state()->not_after)}});
  }
  if (access_->has_keys() && taken(access_->Refresh(), "api keys not taken")) {
    log_.Write(LogLevel::kInfo, "api keys taken",
               {{"keys", static_cast<int64_t>(access_->num_keys())}});
  }
}

}  // namespace mea
