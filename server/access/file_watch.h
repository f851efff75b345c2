#pragma once

#include <memory>
#include <thread>

#include "absl/time/time.h"
#include "server/access/access.h"
#include "server/access/certificates.h"
#include "server/log.h"
#include "server/notification.h"

namespace mea {

// Looks at the operator's files every `period`, on a thread of its own, and logs what it took and
// what it could not take. By their contents: whatever way they are replaced, however their disk
// tells the time.
class FileWatch {
 public:
  FileWatch(std::shared_ptr<Certificates> certificates, std::shared_ptr<Access> access, Log& log,
            absl::Duration period);
  ~FileWatch();

 private:
  void Look();

  const std::shared_ptr<Certificates> certificates_;  // null: none
  const std::shared_ptr<Access> access_;
  Log& log_;
  Notification stop_;
  std::thread thread_;
};

}  // namespace mea
