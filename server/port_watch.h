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

// Asks the server's own ports, as a client from outside would, whether anybody is there: a port may
// be open to the kernel and answered by nobody. Owns the thread that asks. Thread-safe.
class PortWatch {
 public:
  struct Silence {
    absl::Duration time;  // from the first question without an answer to the last; 0: all answer
    std::string problem;  // "127.0.0.1:50051: no answer"
  };

  PortWatch(const std::vector<Address>& ports, absl::Duration period);
  ~PortWatch();

  // Of the port that has been silent for the longest.
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
  std::vector<Port> ports_;  // `silence` is guarded by mu_, the rest is the thread's
  Notification stop_;
  std::thread thread_;
};

}  // namespace mea
