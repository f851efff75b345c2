#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/clock.h"
#include "server/access/api_key.h"
#include "server/access/key_use.h"

namespace mea {

// Decides in one place who calls, whether the caller may, and whether it is within its limits.
// Thread-safe.
class Access {
 public:
  using Clock = std::function<absl::Time()>;

  // Open to anybody.
  Access() = default;
  // The keys of a file: key_file.h. A status names the file and the line.
  static absl::StatusOr<std::shared_ptr<Access>> Load(std::string key_file, Clock clock = Now);

  bool has_keys() const { return !key_file_.empty(); }

  // `authorization` is the header or metadata of that name. UNAUTHENTICATED without a known key,
  // PERMISSION_DENIED if the key lacks the right; nullopt: any key will do. No message contains a
  // key.
  absl::Status Check(std::string_view authorization, std::optional<Right> right) const;

  // Admits a request for inference. RESOURCE_EXHAUSTED, with the reason and how long to wait, if
  // its key has reached a limit. The request counts until the result is destroyed; null if there
  // are no keys.
  absl::StatusOr<std::shared_ptr<KeyCall>> Admit(std::string_view authorization) const;

  // Reads the file again, like Certificates::Refresh. Running requests continue, even those of a
  // removed key; what a key has used stays used.
  absl::StatusOr<bool> Refresh();

  std::vector<KeyUsage> usage() const;  // by key, in the file's order
  int64_t num_unauthenticated() const { return num_unauthenticated_; }
  size_t num_keys() const { return keys()->size(); }

 private:
  struct Entry {
    ApiKey key;
    std::shared_ptr<KeyUse> use;  // of all calls of that name, whatever its line has become
  };
  using Keys = std::vector<Entry>;

  explicit Access(std::string key_file, Clock clock)
      : key_file_(std::move(key_file)), clock_(std::move(clock)) {}

  std::shared_ptr<const Keys> keys() const {
    absl::MutexLock lock(&mu_);
    return keys_;
  }
  absl::StatusOr<Entry> Find(std::string_view authorization, std::optional<Right> right) const;

  const std::string key_file_;  // empty: anybody may do anything
  const Clock clock_ = Now;
  std::optional<std::string> last_text_;  // that Refresh took
  std::string last_failure_;              // likewise, that it told
  mutable std::atomic<int64_t> num_unauthenticated_ = 0;
  mutable absl::Mutex mu_;
  std::shared_ptr<const Keys> keys_ ABSL_GUARDED_BY(mu_) = std::make_shared<Keys>();
};

}  // namespace mea
