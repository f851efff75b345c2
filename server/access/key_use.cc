#include "server/access/key_use.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/refusal.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

// The retry delay if it is unknown when a request of the key will end.
constexpr absl::Duration kKeyRetryDelay = absl::Seconds(1);

}  // namespace

void KeyUse::SetLimits(const KeyLimits& limits) {
  absl::MutexLock lock(&mu_);
  const absl::Time now = clock_();
  limits_ = limits;
  requests_.SetLimit(limits.requests_per_minute, now);
  tokens_.SetLimit(limits.tokens_per_minute, now);
}

int64_t KeyUse::kv_cache_limit() const {
  absl::MutexLock lock(&mu_);
  return limits_.kv_cache_bytes;
}

KeyUsage KeyUse::usage() const {
  absl::MutexLock lock(&mu_);
  return usage_;
}

absl::Status KeyUse::Refuse(Reason reason, std::string_view what, int64_t limit,
                            absl::Duration wait) {
  ++usage_.refused[reason];
  return ResourceExhausted(absl::StrCat("key '", usage_.name, "' may have ", limit, " ",
                                        absl::string_view(what.data(), what.size())),
                           kKeyLimitReasons[reason], wait);
}

absl::Status KeyUse::Begin() {
  absl::MutexLock lock(&mu_);
  const absl::Time now = clock_();
  if (limits_.concurrent_requests > 0 && usage_.num_running >= limits_.concurrent_requests) {
    return Refuse(kConcurrent, "requests at once", limits_.concurrent_requests, kKeyRetryDelay);
  }
  if (const absl::Duration wait = requests_.Wait(1, now); wait > absl::ZeroDuration()) {
    return Refuse(kRequests, "requests a minute", limits_.requests_per_minute, wait);
  }
  if (const absl::Duration wait = tokens_.Wait(1, now); wait > absl::ZeroDuration()) {
    return Refuse(kTokens, "tokens a minute", limits_.tokens_per_minute, wait);
  }
  requests_.Take(1);
  ++usage_.num_running;
  ++usage_.num_requests;
  return absl::OkStatus();
}

void KeyUse::End() {
  absl::MutexLock lock(&mu_);
  --usage_.num_running;
}

absl::Status KeyUse::Reserve(int64_t prompt_tokens, int64_t kv_bytes) {
  absl::MutexLock lock(&mu_);
  if (limits_.kv_cache_bytes > 0 && usage_.kv_cache_bytes + kv_bytes > limits_.kv_cache_bytes) {
    return Refuse(kKvCache, "bytes of KV cache", limits_.kv_cache_bytes, kKeyRetryDelay);
  }
  if (const absl::Duration wait = tokens_.Wait(prompt_tokens, clock_());
      wait > absl::ZeroDuration()) {
    return Refuse(kTokens, "tokens a minute", limits_.tokens_per_minute, wait);
  }
  tokens_.Take(prompt_tokens);
  usage_.kv_cache_bytes += kv_bytes;
  return absl::OkStatus();
}

void KeyUse::Release(int64_t prompt_tokens, int64_t kv_bytes, bool computed,
                     int64_t completion_tokens) {
  absl::MutexLock lock(&mu_);
  usage_.kv_cache_bytes -= kv_bytes;
  if (!computed) return tokens_.Take(-prompt_tokens);
  tokens_.Take(completion_tokens);
  usage_.prompt_tokens += prompt_tokens;
  usage_.completion_tokens += completion_tokens;
}

absl::StatusOr<std::shared_ptr<KeyCall>> KeyCall::Begin(std::shared_ptr<KeyUse> use) {
  MEA_RETURN_IF_ERROR(use->Begin());
  return std::shared_ptr<KeyCall>(new KeyCall(std::move(use)));
}

int KeyShare::MaxContext(int max_context, int num_completions, int page_size,
                         int64_t page_bytes) const {
  const int64_t limit = call_ ? call_->use().kv_cache_limit() : 0;
  if (limit == 0 || page_bytes == 0) return max_context;
  const int64_t pages = limit / (page_bytes * num_completions);
  return static_cast<int>(std::min<int64_t>(max_context, pages * page_size));
}

absl::Status KeyShare::Reserve(int64_t prompt_tokens, int64_t kv_bytes) {
  if (!call_) return absl::OkStatus();
  MEA_RETURN_IF_ERROR(call_->use().Reserve(prompt_tokens, kv_bytes));
  prompt_tokens_ = prompt_tokens;
  kv_bytes_ = kv_bytes;
  return absl::OkStatus();
}

void KeyShare::End(bool computed, int64_t completion_tokens) {
  if (!call_) return;
  call_->use().Release(prompt_tokens_, kv_bytes_, computed, completion_tokens);
  call_.reset();
}

}  // namespace mea
