#pragma once

#include <memory>
#include <thread>

#include "absl/time/time.h"
#include "server/access/access.h"
#include "server/access/certificates.h"
#include "server/log.h"
#include "server/notification.h"

namespace mea {

// Reads the operator's files every `period`, on a thread of its own, and logs what it accepted and
// what it refused. Compares contents, so it does not matter how files are replaced or what times
// their disk reports.
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
