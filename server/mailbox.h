#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "engine/request.h"
#include "engine/text/reply/call_sink.h"

namespace mea {

// The tokens of one position and their log-probabilities.
struct PositionLogprob {
  int32_t token_id = 0;
  std::optional<float> logprob;
  std::vector<TokenLogprob> top;
  int64_t text_offset = 0;  // code points of the completion's text before the token's
};

struct PromptOutput {
  int num_tokens = 0;
  std::vector<int32_t> token_ids;         // where asked for, else empty
  std::vector<PositionLogprob> logprobs;  // [num_tokens] where asked for, else empty
};

struct DeltaOutput {
  int index = 0;  // of the completion
  std::string text;
  std::vector<int32_t> token_ids;
  std::vector<PositionLogprob> logprobs;  // one per token id where asked for, else empty
  std::optional<ReplyDelta> reply;        // for a chat: the parts of the text
};

// Its approximate size on the wire.
int64_t OutputBytes(const DeltaOutput& delta);

struct EosMatch {
  int32_t token_id = 0;
};
struct StopTokenMatch {
  int32_t token_id = 0;
};
struct StopStringMatch {
  std::string text;
};

// The end of a completion or, if the status is not OK, of the request: then usage still says what
// the engine spent, and the rest is meaningless.
struct FinishOutput {
  absl::Status status;
  int index = 0;        // of the completion
  bool is_last = true;  // no other completion is still running
  FinishReason reason = FinishReason::kStop;
  std::variant<std::monostate, EosMatch, StopTokenMatch, StopStringMatch> match;
  Usage usage;
  uint64_t seed = 0;
  bool has_tool_calls = false;  // for a chat: its reply called tools, and no stop string cut it off
};

using Output = std::variant<PromptOutput, DeltaOutput, FinishOutput>;

// Output of one request on its way from the text worker to the writer of the call: the prompt, then
// deltas and a finish for every completion. Deltas of a completion that the writer has not taken
// yet are merged, so a slow client costs at most `max_bytes` and never the engine's time.
// Thread-safe.
class Mailbox {
 public:
  explicit Mailbox(int64_t max_bytes) : max_bytes_(max_bytes) {}

  void Put(PromptOutput prompt) ABSL_LOCKS_EXCLUDED(mu_);
  // False: the unread output would exceed max_bytes; the delta is dropped.
  [[nodiscard]] bool Put(DeltaOutput delta) ABSL_LOCKS_EXCLUDED(mu_);
  // A failure drops unread output: then only its status matters.
  void Put(FinishOutput finish) ABSL_LOCKS_EXCLUDED(mu_);

  // The next thing to write, if there is one.
  std::optional<Output> Take() ABSL_LOCKS_EXCLUDED(mu_);
  // There will be no more output.
  bool finished() const ABSL_LOCKS_EXCLUDED(mu_) {
    absl::MutexLock lock(&mu_);
    return finished_;
  }

 private:
  const int64_t max_bytes_;
  mutable absl::Mutex mu_;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  int64_t delta_bytes_ ABSL_GUARDED_BY(mu_) = 0;     // of the deltas in outputs_
  std::deque<Output> outputs_ ABSL_GUARDED_BY(mu_);  // at most one of each kind and completion
};

}  // namespace mea
