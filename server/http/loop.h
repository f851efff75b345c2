#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>
#include <unordered_set>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace mea {

class HttpConnection;

// One io thread's event loop and the connections that live on it. Exchanges keep it alive; jobs
// posted after it has stopped are dropped. All methods except Post: only on the loop's thread.
struct HttpLoop {
  using Clock = std::chrono::steady_clock;

  // Runs `job` on the loop's thread, after what was posted before. Any thread, never blocks.
  template <typename Job>
  void Post(Job job) ABSL_LOCKS_EXCLUDED(mu) {
    absl::MutexLock lock(&mu);
    if (!stopped) boost::asio::post(context, std::move(job));
  }

  boost::asio::io_context context{1};  // one thread runs it
  boost::asio::steady_timer timer{context};
  bool ticking = false;   // the timer is set: deadlines are checked
  bool draining = false;  // no further requests
  std::unordered_set<std::shared_ptr<HttpConnection>> connections;

  absl::Mutex mu;
  bool stopped ABSL_GUARDED_BY(mu) = false;
};

}  // namespace mea
