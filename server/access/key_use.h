#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/access/api_key.h"
#include "server/access/minute_rate.h"

namespace mea {

// Why a key is refused for now; as clients read it, and as a label of metrics.
inline constexpr std::array<std::string_view, 4> kKeyLimitReasons = {
    "KEY_REQUESTS_PER_MINUTE", "KEY_TOKENS_PER_MINUTE", "KEY_CONCURRENT_REQUESTS",
    "KEY_KV_CACHE_BYTES"};

// What a key has used and uses.
struct KeyUsage {
  std::string name;
  int64_t num_running = 0;
  int64_t kv_cache_bytes = 0;  // reserved for running requests
  int64_t num_requests = 0;    // that were admitted
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
  std::array<int64_t, kKeyLimitReasons.size()> refused{};
};

// The accounts of one key: how much of its limits its requests use. Thread-safe.
class KeyUse {
 public:
  KeyUse(std::string name, std::function<absl::Time()> clock)
      : clock_(std::move(clock)), usage_{.name = std::move(name)} {}

  void SetLimits(const KeyLimits& limits);
  int64_t kv_cache_limit() const;  // 0: none
  KeyUsage usage() const;

  // A call begins and ends. RESOURCE_EXHAUSTED: it does not begin.
  absl::Status Begin();
  void End();
  // A prompt of a call is known. Its tokens are charged now, those of its completions when they
  // exist, as a debt if need be: no stream is cut off.
  absl::Status Reserve(int64_t prompt_tokens, int64_t kv_bytes);
  // Ends a reservation; a prompt that was not computed has used nothing.
  void Release(int64_t prompt_tokens, int64_t kv_bytes, bool computed, int64_t completion_tokens);

 private:
  enum Reason { kRequests, kTokens, kConcurrent, kKvCache };  // of kKeyLimitReasons

  absl::Status Refuse(Reason reason, std::string_view what, int64_t limit, absl::Duration wait)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const std::function<absl::Time()> clock_;
  mutable absl::Mutex mu_;
  KeyLimits limits_ ABSL_GUARDED_BY(mu_);
  MinuteRate requests_ ABSL_GUARDED_BY(mu_);
  MinuteRate tokens_ ABSL_GUARDED_BY(mu_);
  KeyUsage usage_ ABSL_GUARDED_BY(mu_);
};

// One call of a key; counts as concurrent while it lives.
class KeyCall {
 public:
  static absl::StatusOr<std::shared_ptr<KeyCall>> Begin(std::shared_ptr<KeyUse> use);
  ~KeyCall() { use_->End(); }
  KeyCall(const KeyCall&) = delete;
  KeyUse& use() const { return *use_; }

 private:
  explicit KeyCall(std::shared_ptr<KeyUse> use) : use_(std::move(use)) {}
  const std::shared_ptr<KeyUse> use_;
};

// The share of its key that one prompt of a call uses, until End or its destruction. One thread at
// a time.
class KeyShare {
 public:
  // Null: no key, no limits.
  explicit KeyShare(std::shared_ptr<KeyCall> call) : call_(std::move(call)) {}
  ~KeyShare() { End(/*computed=*/false, 0); }
  KeyShare(const KeyShare&) = delete;

  bool has_key() const { return call_ != nullptr; }
  // Tokens of prompt and one completion that the key's memory holds if `num_completions` are asked
  // for; at most `max_context`.
  int MaxContext(int max_context, int num_completions, int page_size, int64_t page_bytes) const;
  // RESOURCE_EXHAUSTED: the key has reached a limit for now.
  absl::Status Reserve(int64_t prompt_tokens, int64_t kv_bytes);
  // The tokens of a prompt that was not computed are given back.
  void End(bool computed, int64_t completion_tokens);

 private:
  std::shared_ptr<KeyCall> call_;
  int64_t prompt_tokens_ = 0;
  int64_t kv_bytes_ = 0;
};

}  // namespace mea
