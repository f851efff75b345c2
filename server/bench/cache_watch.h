#pragma once

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <memory>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/notification.h"

namespace mea {

// The server's KV cache at the moment when requests held most of it.
struct CachePeak {
  int64_t used_bytes = 0;
  int64_t used_bytes_uncompressed = 0;  // the same pages with every virtual head stored
  int64_t total_bytes = 0;
};

// Asks a mea server for its cache from time to time, on a thread of its own, until Stop.
class CacheWatch {
 public:
  CacheWatch(std::shared_ptr<grpc::Channel> channel, absl::Duration period);
  ~CacheWatch() { Stop(); }

  CachePeak Stop();
  CachePeak peak() const {  // so far
    absl::MutexLock lock(&mu_);
    return peak_;
  }

 private:
  void Run(absl::Duration period);

  const std::shared_ptr<grpc::Channel> channel_;
  Notification stop_;
  mutable absl::Mutex mu_;
  CachePeak peak_ ABSL_GUARDED_BY(mu_);
  std::thread thread_;
};

}  // namespace mea
