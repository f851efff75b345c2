#pragma once

#include <memory>
#include <optional>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "engine/request.h"
#include "engine/text/detokenizer.h"
#include "server/generation_spec.h"
#include "server/mailbox.h"
#include "server/request_log.h"
#include "server/serving.h"

namespace mea {

// Who writes the output of a Generation to the client.
class OutputListener {
 public:
  virtual ~OutputListener() = default;
  // The mailbox holds something new. Called by text workers; must not block.
  virtual void OnOutput() = 0;
};

// How much output may wait for the client, and what happens beyond.
struct OutputBound {
  int64_t max_bytes = 0;
  absl::Status exceeded;
};

// One request between its call and the engine. A text worker encodes the prompt and submits it; the
// engine's thread drops events into the inbox, a text worker turns them into output, the listener
// takes that from the mailbox. Shared by the call, the engine and the job at hand; ends with the
// engine's OnFinish, or before it where the engine never took the request.
class Generation final : public TokenSink, public std::enable_shared_from_this<Generation> {
 public:
  Generation(Serving& serving, GenerationSpec spec, OutputBound bound,
             std::weak_ptr<OutputListener> listener);

  // Takes the id and hands the prompt to a text worker. Where it fails the request has ended with
  // that status and no output follows: UNAVAILABLE, ALREADY_EXISTS, RESOURCE_EXHAUSTED.
  absl::Status Start();

  // Ends the request with `why` within one step of the engine, unless it has ended. Any thread.
  void Cancel(absl::Status why) ABSL_LOCKS_EXCLUDED(mu_);

  Mailbox& mailbox() { return mailbox_; }
  const GenerationSpec& spec() const { return spec_; }

  // On the engine's thread.
  void OnScheduled(absl::Time when) override;
  void OnPromptLogprobs(std::vector<float> logprobs) override;
  void OnToken(TokenEvent event) override;
  void OnFinish(FinishEvent event) override;

 private:
  struct Scheduled {
    absl::Time time;
  };
  struct PromptLogprobs {
    std::vector<float> logprobs;
  };
  struct Token {
    TokenEvent event;
    absl::Time time;
  };
  using Event = std::variant<Scheduled, PromptLogprobs, Token, FinishEvent>;
  enum class Phase { kEncoding, kSubmitted, kEnded };

  void Receive(Event event) ABSL_LOCKS_EXCLUDED(inbox_mu_);

  // Text worker.
  void EncodeAndSubmit();
  absl::Status PrepareRequest();
  absl::Status PrepareEcho();
  absl::Status Submit() ABSL_LOCKS_EXCLUDED(mu_);
  void HandleInbox() ABSL_LOCKS_EXCLUDED(inbox_mu_);
  void Handle(Scheduled scheduled);
  void Handle(PromptLogprobs prompt);
  void Handle(Token token);
  void Handle(FinishEvent event);
  void AppendToken(const TokenEvent& event);
  void Stop(StopStringMatch match) ABSL_LOCKS_EXCLUDED(mu_);
  void FlushPrompt();
  void FlushDelta();
  void ReachBound();
  void End(FinishOutput finish) ABSL_LOCKS_EXCLUDED(mu_);
  void Notify();

  Serving& serving_;
  GenerationSpec spec_;  // constant once submitted
  const absl::Status bound_exceeded_;
  const std::weak_ptr<OutputListener> listener_;
  const absl::Time arrival_ = absl::Now();
  Mailbox mailbox_;

  absl::Mutex mu_;  // never taken by the engine's thread: held while calling the engine
  Phase phase_ ABSL_GUARDED_BY(mu_) = Phase::kEncoding;
  absl::Status cancelled_ ABSL_GUARDED_BY(mu_);  // OK: not cancelled

  absl::Mutex inbox_mu_;
  std::vector<Event> inbox_ ABSL_GUARDED_BY(inbox_mu_);
  bool inbox_overflow_ ABSL_GUARDED_BY(inbox_mu_) = false;
  // A job of this request is posted or running; the next one is posted by it.
  bool job_pending_ ABSL_GUARDED_BY(inbox_mu_) = true;

  // Of the job at hand.
  std::optional<Detokenizer> detokenizer_;
  std::optional<PromptOutput> prompt_output_;  // until it is sent
  std::optional<DeltaOutput> echo_;            // likewise, right after it
  DeltaOutput delta_;                          // until it is sent
  int completion_tokens_ = 0;
  std::optional<StopStringMatch> stop_string_;  // found: nothing more is output
  bool bound_reached_ = false;                  // likewise
  RequestTimes times_;
  absl::Time last_token_time_ = absl::InfinitePast();
};

}  // namespace mea
