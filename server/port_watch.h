#pragma once

#include <sys/socket.h>

#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/address.h"
#include "server/notification.h"

namespace mea {

// Connects to the server's own ports, like a client, to see whether they answer: the kernel may
// accept connections that nobody serves. Owns the thread that does it. Thread-safe.
class PortWatch {
 public:
  struct Silence {
    absl::Duration time;  // from the first question without an answer to the last; 0: all answer
    std::string problem;  // "127.0.0.1:50051: no answer"
  };

  PortWatch(const std::vector<Address>& ports, absl::Duration period);
  ~PortWatch();

  // The silence of the port that has been silent longest.
  Silence silence() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Port {
    std::string name;
    sockaddr_storage address{};
    socklen_t address_length = 0;
    Silence silence = {};
    absl::Time silent_since = absl::InfiniteFuture();
  };

  void Run() ABSL_LOCKS_EXCLUDED(mu_);

  const absl::Duration period_;
  mutable absl::Mutex mu_;
  std::vector<Port> ports_;  // mu_ guards `silence`; only the thread uses the rest
  Notification stop_;
  std::thread thread_;
};

}  // namespace mea
