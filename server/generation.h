#pragma once

#include <memory>
#include <optional>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "engine/clock.h"
#include "engine/request.h"
#include "engine/text/detokenizer.h"
#include "engine/text/reply/reply_parser.h"
#include "server/generation_spec.h"
#include "server/mailbox.h"
#include "server/request_log.h"
#include "server/serving.h"

namespace mea {

// Writes the output of a Generation to the client.
class OutputListener {
 public:
  virtual ~OutputListener() = default;
  // The mailbox has new output. Called by text workers; must not block.
  virtual void OnOutput() = 0;
};

// How much output may wait for the client, and what happens beyond.
struct OutputBound {
  int64_t max_bytes = 0;
  absl::Status exceeded;
};

// One request between its call and the engine. A text worker encodes the prompt and submits it; the
// engine's thread puts events into the inbox, a text worker turns them into output, and the
// listener takes that from the mailbox. Shared by the call, the engine and the current job; ends
// with the engine's last OnFinish, or earlier if the engine never got the request.
class Generation final : public std::enable_shared_from_this<Generation> {
 public:
  Generation(Serving& serving, GenerationSpec spec, OutputBound bound,
             std::weak_ptr<OutputListener> listener);

  // Takes the id and hands the prompt to a text worker. If it fails, the request has ended with
  // that status and no output follows: UNAVAILABLE, ALREADY_EXISTS, RESOURCE_EXHAUSTED.
  absl::Status Start();

  // Ends the request with `why` within one step of the engine, unless it has ended. Any thread.
  void Cancel(absl::Status why) ABSL_LOCKS_EXCLUDED(mu_);

  Mailbox& mailbox() { return mailbox_; }
  const GenerationSpec& spec() const { return spec_; }

 private:
  struct Scheduled {
    absl::Time time;
  };
  struct PromptLogprobs {
    std::vector<PromptLogprob> logprobs;
  };
  struct Token {
    TokenEvent event;
    absl::Time time;
  };
  using Event = std::variant<Scheduled, PromptLogprobs, Token, FinishEvent>;
  // Receives the engine's events for one completion.
  class Sink;
  // An event and its completion.
  struct Message {
    int index;
    Event event;
  };
  // One completion of the prompt; used by the current job.
  struct Completion {
    std::optional<Detokenizer> detokenizer;
    std::optional<ReplyParser> reply_parser;  // of a chat, unless its replies stay raw
    DeltaOutput delta;                        // until it is sent
    int num_tokens = 0;
    std::optional<StopStringMatch> stop_string;  // found: no more output
    absl::Time last_token_time = absl::InfinitePast();
  };
  enum class Phase { kEncoding, kSubmitted, kEnded };

  void Receive(Message message) ABSL_LOCKS_EXCLUDED(inbox_mu_);

  // A compiler of grammars, between two of the text workers' jobs.
  void CompileAndSubmit();
  // Text worker.
  void EncodeAndSubmit();
  void SubmitPrepared(absl::Status prepared);
  absl::Status PrepareRequest();
  absl::Status StillWanted() ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status TakeShare();
  absl::Status PrepareCompletions();
  absl::Status PrepareEcho();
  absl::Status Submit() ABSL_LOCKS_EXCLUDED(mu_);
  void HandleInbox() ABSL_LOCKS_EXCLUDED(inbox_mu_);
  void Handle(int index, Scheduled scheduled);
  void Handle(int index, PromptLogprobs prompt);
  void Handle(int index, Token token);
  void Handle(int index, FinishEvent event);
  void AppendToken(int index, const TokenEvent& event);
  bool IsStopToken(int32_t id) const;  // one that the request names
  void AppendReply(Completion& completion, ReplyDelta reply);
  void Stop(int index, StopStringMatch match) ABSL_LOCKS_EXCLUDED(mu_);
  void FlushPrompt();
  void FlushDelta(int index);
  void ReachBound();
  void EndCompletion(FinishOutput finish) ABSL_LOCKS_EXCLUDED(mu_);
  void End(FinishOutput finish) ABSL_LOCKS_EXCLUDED(mu_);
  void Notify();

  Serving& serving_;
  GenerationSpec spec_;  // constant once submitted
  const absl::Status bound_exceeded_;
  const std::weak_ptr<OutputListener> listener_;
  const absl::Time arrival_ = Now();
  Mailbox mailbox_;
  KeyShare key_share_;  // of the job at hand

  absl::Mutex mu_;  // never taken by the engine's thread: held while calling the engine
  Phase phase_ ABSL_GUARDED_BY(mu_) = Phase::kEncoding;
  absl::Status cancelled_ ABSL_GUARDED_BY(mu_);  // OK: not cancelled

  absl::Mutex inbox_mu_;
  std::vector<Message> inbox_ ABSL_GUARDED_BY(inbox_mu_);
  bool inbox_overflow_ ABSL_GUARDED_BY(inbox_mu_) = false;
  // A job of this request is posted or running; the next one is posted by it.
  bool job_pending_ ABSL_GUARDED_BY(inbox_mu_) = true;

  // Of the job at hand.
  std::optional<PromptOutput> prompt_output_;  // until it is sent
  std::optional<DeltaOutput> echo_;            // likewise, right after it, for each completion
  int64_t echo_code_points_ = 0;               // of its text
  std::vector<Completion> completions_;        // [n]
  int num_ended_ = 0;
  absl::Status failed_;            // why the first that failed did
  Usage usage_;                    // of all that have ended
  int max_completion_tokens_ = 0;  // of one of them
  bool bound_reached_ = false;     // nothing more is output
  RequestTimes times_{.arrival = arrival_};
};

}  // namespace mea
