#include "server/bench/cache_watch.h"

#include <utility>

#include "mea/v1/control.grpc.pb.h"

namespace mea {

CacheWatch::CacheWatch(std::shared_ptr<grpc::Channel> channel, absl::Duration period)
    : channel_(std::move(channel)), thread_([this, period] { Run(period); }) {}

CachePeak CacheWatch::Stop() {
  if (thread_.joinable()) {
    stop_.Notify();
    thread_.join();
  }
  return peak();
}

void CacheWatch::Run(absl::Duration period) {
  const auto stub = v1::Control::NewStub(channel_);
  do {
    v1::GetCacheStatsResponse stats;
    grpc::ClientContext context;
    if (!stub->GetCacheStats(&context, {}, &stats).ok()) continue;
    absl::MutexLock lock(&mu_);
    if (stats.used_bytes() < peak_.used_bytes) continue;
    peak_ = {.used_bytes = stats.used_bytes(),
             .used_bytes_uncompressed = stats.used_bytes_uncompressed(),
             .total_bytes = stats.total_bytes()};
  } while (!stop_.WaitForNotificationWithTimeout(period));
}

}  // namespace mea
