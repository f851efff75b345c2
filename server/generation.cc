#include "server/generation.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/clock.h"
#include "engine/text/utf8.h"
#include "kernels/status_macros.h"
#include "server/echo.h"
#include "server/field_error.h"
#include "server/limits.h"
#include "server/prepare_prompt.h"
#include "server/status.h"

namespace mea {

class Generation::Sink final : public TokenSink {
 public:
  Sink(std::shared_ptr<Generation> to, int index) : to_(std::move(to)), index_(index) {}

  void OnScheduled(absl::Time when) override { to_->Receive({index_, Scheduled{when}}); }
  void OnPromptLogprobs(std::vector<PromptLogprob> logprobs) override {
    to_->Receive({index_, PromptLogprobs{std::move(logprobs)}});
  }
  void OnToken(TokenEvent event) override {
    to_->Receive({index_, Token{std::move(event), Now()}});
  }
  void OnFinish(FinishEvent event) override { to_->Receive({index_, std::move(event)}); }

 private:
  const std::shared_ptr<Generation> to_;
  const int index_;
};

Generation::Generation(Serving& serving, GenerationSpec spec, OutputBound bound,
                       std::weak_ptr<OutputListener> listener)
    : serving_(serving),
      spec_(std::move(spec)),
      bound_exceeded_(std::move(bound.exceeded)),
      listener_(std::move(listener)),
      mailbox_(bound.max_bytes),
      key_share_(std::move(spec_.key_call)) {}

absl::Status Generation::Start() {
  if (const ServingState state = serving_.readiness.state(); state != ServingState::kServing) {
    return absl::UnavailableError(
        absl::StrCat("the server is ", std::string(ServingStateName(state))));
  }
  const std::string& id = spec_.request.id;
  if (!serving_.requests.Insert(id, weak_from_this())) {
    return absl::AlreadyExistsError(absl::StrCat("request_id '", id, "' is in flight"));
  }
  if (!serving_.workers.Post([self = shared_from_this()] { self->EncodeAndSubmit(); },
                             spec_.text.bytes)) {
    serving_.requests.Erase(id);
    return ResourceExhausted(absl::StrCat("the queue of ", kMaxTextJobs, " prompts is full"),
                             "TEXT_QUEUE_FULL", kRetryDelay);
  }
  return absl::OkStatus();
}

void Generation::Cancel(absl::Status why) {
  absl::MutexLock lock(&mu_);
  if (phase_ == Phase::kEnded || !cancelled_.ok()) return;
  cancelled_ = std::move(why);
  if (phase_ == Phase::kSubmitted) serving_.engine.Cancel(spec_.request.id);
}

void Generation::Receive(Message message) {
  {
    absl::MutexLock lock(&inbox_mu_);
    if (inbox_.size() >= kMaxPendingEvents && !std::holds_alternative<FinishEvent>(message.event)) {
      inbox_overflow_ = true;
    } else {
      inbox_.push_back(std::move(message));
    }
    if (job_pending_) return;
    job_pending_ = true;
  }
  serving_.workers.PostOutput([self = shared_from_this()] { self->HandleInbox(); });
}

void Generation::EncodeAndSubmit() {
  absl::Status status = PrepareRequest();
  if (status.ok() && spec_.grammar && spec_.request.grammar == nullptr) {
    if (serving_.compilers.Post([self = shared_from_this()] { self->CompileAndSubmit(); })) return;
    status = ResourceExhausted(
        absl::StrCat("the queue of ", kMaxGrammarJobs, " grammars to compile is full"),
        "GRAMMAR_QUEUE_FULL", kRetryDelay);
  }
  SubmitPrepared(std::move(status));
}

void Generation::CompileAndSubmit() {
  SubmitPrepared(CompileGrammar(
      serving_, [this] { return StillWanted(); }, spec_));
}

void Generation::SubmitPrepared(absl::Status prepared) {
  absl::Status status = std::move(prepared);
  if (status.ok()) status = Submit();
  spec_.text.hold.reset();
  if (!status.ok()) {
    End({.status = std::move(status)});
    return;
  }
  serving_.request_log.Accepted(spec_);
  if (!spec_.request.prompt_logprobs) FlushPrompt();
  HandleInbox();
}

// The steps that need the tokens of the prompt.
absl::Status Generation::PrepareRequest() {
  const Request& request = spec_.request;
  MEA_RETURN_IF_ERROR(PreparePrompt(
      serving_, [this] { return StillWanted(); }, spec_));
  MEA_RETURN_IF_ERROR(TakeShare());
  MEA_RETURN_IF_ERROR(PrepareCompletions());
  prompt_output_ = PromptOutput{.num_tokens = static_cast<int>(request.prompt.size())};
  if (spec_.prompt_token_ids) prompt_output_->token_ids = request.prompt;
  return spec_.echo ? PrepareEcho() : absl::OkStatus();
}

// Checks the prompt against the context and the limits of its key.
absl::Status Generation::TakeShare() {
  if (!key_share_.has_key()) return FitToContext(spec_, serving_.engine.max_context());
  const KvCacheStats kv = serving_.engine.stats().kv;
  const int64_t page_bytes = kv.page_size * kv.bytes_per_token;
  const int max_context =
      key_share_.MaxContext(serving_.engine.max_context(), spec_.n, kv.page_size, page_bytes);
  MEA_RETURN_IF_ERROR(FitToContext(spec_, max_context));
  const int64_t prompt_tokens = std::ssize(spec_.request.prompt);
  const int64_t tokens = prompt_tokens + spec_.request.stopping.max_tokens;
  const int64_t pages = spec_.n * ((tokens + kv.page_size - 1) / kv.page_size);
  return key_share_.Reserve(prompt_tokens, pages * page_bytes);
}

absl::Status Generation::StillWanted() {
  absl::MutexLock lock(&mu_);
  MEA_RETURN_IF_ERROR(cancelled_);
  // The engine would refuse it.
  MEA_RETURN_IF_ERROR(serving_.readiness.CheckNotDraining());
  if (Now() < spec_.request.deadline) return absl::OkStatus();
  return absl::DeadlineExceededError("the deadline passed before the request was queued");
}

absl::Status Generation::PrepareCompletions() {
  const bool reads_reply = spec_.chat && !spec_.chat->raw_reply;
  DetokenizerOptions options{.stop = spec_.stop,
                             .include_stop = spec_.include_stop,
                             .min_tokens = spec_.request.stopping.min_tokens};
  if (reads_reply) options.shown_special_tokens = serving_.reply_markers;
  ReplyParser::Options reply_options;
  if (reads_reply) {
    MEA_ASSIGN_OR_RETURN(reply_options, ReplyOptions(spec_, serving_, 0));
  }
  completions_.resize(spec_.n);
  for (int i = 0; i < spec_.n; ++i) {
    // Each of them reads the whole prompt.
    MEA_RETURN_IF_ERROR(StillWanted());
    if (reads_reply) completions_[i].reply_parser.emplace(reply_options);
    ++reply_options.id_seed;
    MEA_ASSIGN_OR_RETURN(auto detokenizer, Detokenizer::Create(&serving_.tokenizer, options));
    completions_[i].detokenizer.emplace(std::move(detokenizer));
    completions_[i].detokenizer->StartAfter(spec_.request.prompt);
    completions_[i].delta.index = i;
  }
  return absl::OkStatus();
}

absl::Status Generation::PrepareEcho() {
  echo_ = MakeEcho(spec_, serving_.tokenizer);
  echo_code_points_ = NumCodePoints(echo_->text);
  const int64_t bytes = spec_.n * OutputBytes(*echo_);
  if (bytes <= kMaxEchoBytes) return absl::OkStatus();
  return FieldError("response.echo", absl::StrCat("repeats a prompt of ", bytes,
                                                  " bytes, the most is ", kMaxEchoBytes));
}

absl::Status Generation::Submit() {
  MEA_RETURN_IF_ERROR(StillWanted());
  absl::MutexLock lock(&mu_);
  MEA_RETURN_IF_ERROR(cancelled_);
  std::vector<std::shared_ptr<TokenSink>> sinks;
  for (int i = 0; i < spec_.n; ++i) sinks.push_back(std::make_shared<Sink>(shared_from_this(), i));
  absl::Status status = serving_.engine.Submit(spec_.request, std::move(sinks));
  if (status.ok()) phase_ = Phase::kSubmitted;
  return status;
}

}  // namespace mea
