#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/generation_spec.h"
#include "server/log.h"
#include "server/mailbox.h"
#include "server/trace_context.h"

namespace mea {

// When a request came, and how long it took from then on.
struct RequestTimes {
  absl::Time arrival;
  std::optional<absl::Duration> queue;        // to its first step
  std::optional<absl::Duration> first_token;  // to its first token
  absl::Duration total;
};

// The beginning of every line of a request.
struct RequestTag {
  std::string id;
  TraceContext trace;
  std::string label;  // the client's name for it; empty: none
};

// What may be told of why a request failed: the message, unless it may quote the client's texts.
struct FailureText {
  std::string message;
  std::string field;  // what the message is about, in its place
};
FailureText ToldOf(const absl::Status& status);

// What is logged of a request: its id, its numbers and its status, never what it reads or writes.
// Every request that arrives is logged once as refused, or once as finished. Thread-safe.
class RequestLog {
 public:
  explicit RequestLog(Log& log) : log_(log) {}

  void Accepted(const GenerationSpec& spec);
  void Scheduled(const GenerationSpec& spec, absl::Duration queue);
  void FirstToken(const GenerationSpec& spec, absl::Duration first_token);
  void Finished(const GenerationSpec& spec, const FinishOutput& finish, const RequestTimes& times);
  // The engine never got it. For lack of room: a warning with the number of such refusals since the
  // last warning, once per kOverloadLogPeriod; the others are logged at debug.
  void Refused(const RequestTag& tag, const absl::Status& status) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  Log& log_;
  absl::Mutex mu_;
  absl::Time next_warning_ ABSL_GUARDED_BY(mu_) = absl::InfinitePast();
  int64_t unwarned_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace mea
