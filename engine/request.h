#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/grammar/grammar.h"

namespace mea {

// How the next token is drawn from the logits. Ranges are checked by ValidateRequest.
// Applied in this order: bias and allowed set, penalties, temperature, top-k, top-p, min-p.
struct SamplingParams {
  float temperature = 1.0f;         // 0 = greedy: the most likely token, the lowest id among equals
  int top_k = 0;                    // keep the k most likely; 0 = all
  float top_p = 1.0f;               // keep the smallest set of at least this probability; (0, 1]
  float min_p = 0.0f;               // drop tokens below min_p * the largest probability; [0, 1]
  float repetition_penalty = 1.0f;  // > 1 discourages tokens of prompt and output (Keskar et al.)
  float presence_penalty = 0.0f;    // subtracted once from tokens of the output; [-2, 2]
  float frequency_penalty = 0.0f;   // subtracted per occurrence in the output; [-2, 2]
  // Same seed, same tokens, whatever the batch. Completion i of a request draws with seed + i.
  uint64_t seed = 0;
  std::vector<std::pair<int32_t, float>> logit_bias;  // (token id, added to its logit)
  std::vector<int32_t> allowed_token_ids;             // empty = every token
};

struct StoppingParams {
  int max_tokens = 16;
  int min_tokens = 0;  // before that, no eos or stop token can be drawn
  std::vector<int32_t> stop_token_ids;
  bool ignore_eos = false;
  bool is_watched = false;  // the submitter may end it earlier: at a stop string
};

// A prompt and how to continue it, in tokens; the submitter deals with text.
struct Request {
  std::string id;  // unique among the requests in flight
  std::vector<int32_t> prompt;
  SamplingParams sampling;
  StoppingParams stopping;
  // What the completions must match; null: anything. Shared: a compiled grammar serves many
  // requests.
  std::shared_ptr<const Grammar> grammar;
  std::optional<int> logprobs;   // per output token: its own and this many most likely ones (0..20)
  bool prompt_logprobs = false;  // the same for every prompt token except the first
  int priority = 0;              // higher first; -1000..1000
  // If true, it neither uses nor leaves cached prefixes; otherwise it shares them with requests of
  // the same salt.
  bool bypass_prefix_cache = false;
  std::string cache_salt;
  absl::Time deadline = absl::InfiniteFuture();
};

// The bounds of a request in addition to the fixed ranges.
struct RequestLimits {
  int vocab_size = 0;
  int max_context = 0;  // tokens of prompt and output together
};

inline constexpr int kMaxCompletions = 16;  // of one request

// INVALID_ARGUMENT naming field, value and bound, or OK.
absl::Status ValidateSampling(const SamplingParams& sampling, int vocab_size);
absl::Status ValidateRequest(const Request& request, const RequestLimits& limits);

struct TokenLogprob {
  int32_t token_id = 0;
  float logprob =
      0;  // natural log of the probability under the model, before any sampling parameter
};

// The model's log-probabilities for one prompt token.
struct PromptLogprob {
  float logprob = 0;
  std::vector<TokenLogprob> top;  // most likely first; as many as Request.logprobs asks for
};

struct TokenEvent {
  int32_t token_id = 0;
  bool is_stop = false;  // eos or a stop token: the last one, not part of the text
  std::optional<float> logprob;
  std::vector<TokenLogprob> top_logprobs;  // most likely first
};

enum class FinishReason { kStop, kLength, kCancelled };

struct Usage {
  int prompt_tokens = 0;
  int completion_tokens = 0;
  int cached_tokens = 0;              // prompt tokens found in the prefix cache
  int num_preemptions = 0;            // times that it was set back to give its pages to another
  int64_t kv_bytes = 0;               // cache memory the request held at its end, in whole pages
  int64_t kv_bytes_uncompressed = 0;  // the same pages with all virtual heads in BF16
};

// The one terminal event of a request. status is OK for kStop and kLength; CANCELLED,
// DEADLINE_EXCEEDED, UNAVAILABLE or INTERNAL otherwise; FAILED_PRECONDITION, INVALID_ARGUMENT or
// RESOURCE_EXHAUSTED if a grammar cannot be followed any more.
struct FinishEvent {
  absl::Status status;
  FinishReason reason = FinishReason::kStop;
  std::optional<int32_t> stop_token_id;  // the eos or stop token that ended it
  Usage usage;
};

// Receives the events of one request, in order, on the engine thread: OnScheduled once,
// OnPromptLogprobs at most once, OnToken per token, OnFinish exactly once and last (perhaps alone).
// Never blocks.
class TokenSink {
 public:
  virtual ~TokenSink() = default;
  virtual void OnScheduled(absl::Time /*when*/) {}                           // left the queue
  virtual void OnPromptLogprobs(std::vector<PromptLogprob> /*logprobs*/) {}  // [prompt length - 1]
  virtual void OnToken(TokenEvent event) = 0;
  virtual void OnFinish(FinishEvent event) = 0;
};

}  // namespace mea
