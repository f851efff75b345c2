#include "server/generation.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/echo.h"
#include "server/limits.h"
#include "server/status.h"

namespace mea {
namespace {

bool Contains(const std::vector<int32_t>& ids, int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

Generation::Generation(Serving& serving, GenerationSpec spec, OutputBound bound,
                       std::weak_ptr<OutputListener> listener)
    : serving_(serving),
      spec_(std::move(spec)),
      bound_exceeded_(std::move(bound.exceeded)),
      listener_(std::move(listener)),
      mailbox_(bound.max_bytes) {}

absl::Status Generation::Start() {
  if (const ServingState state = serving_.readiness.state(); state != ServingState::kServing) {
    return absl::UnavailableError(
        absl::StrCat("the server is ", std::string(ServingStateName(state))));
  }
  const std::string& id = spec_.request.id;
  if (!serving_.requests.Insert(id, weak_from_this())) {
    return absl::AlreadyExistsError(absl::StrCat("request_id '", id, "' is in flight"));
  }
  if (!serving_.workers.Post([self = shared_from_this()] { self->EncodeAndSubmit(); })) {
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

void Generation::OnScheduled(absl::Time when) { Receive(Scheduled{when}); }
void Generation::OnPromptLogprobs(std::vector<float> logprobs) {
  Receive(PromptLogprobs{std::move(logprobs)});
}
void Generation::OnToken(TokenEvent event) { Receive(Token{std::move(event), absl::Now()}); }
void Generation::OnFinish(FinishEvent event) { Receive(std::move(event)); }

void Generation::Receive(Event event) {
  {
    absl::MutexLock lock(&inbox_mu_);
    if (inbox_.size() >= kMaxPendingEvents && !std::holds_alternative<FinishEvent>(event)) {
      inbox_overflow_ = true;
    } else {
      inbox_.push_back(std::move(event));
    }
    if (job_pending_) return;
    job_pending_ = true;
  }
  serving_.workers.PostOutput([self = shared_from_this()] { self->HandleInbox(); });
}

void Generation::EncodeAndSubmit() {
  absl::Status status = PrepareRequest();
  if (status.ok()) status = Submit();
  if (!status.ok()) {
    End({.status = std::move(status)});
    return;
  }
  serving_.request_log.Accepted(spec_);
  if (!spec_.request.prompt_logprobs) FlushPrompt();
  HandleInbox();
}

// Everything that needs the tokens of the prompt.
absl::Status Generation::PrepareRequest() {
  Request& request = spec_.request;
  if (request.prompt.empty()) request.prompt = serving_.tokenizer.Encode(spec_.prompt_text);
  if (absl::Status status = FitToContext(spec_, serving_.engine.max_context()); !status.ok()) {
    return status;
  }
  auto detokenizer = Detokenizer::Create(&serving_.tokenizer,
                                         {.stop = spec_.stop, .include_stop = spec_.include_stop});
  if (!detokenizer.ok()) return detokenizer.status();
  detokenizer_.emplace(*std::move(detokenizer));
  detokenizer_->StartAfter(request.prompt);
  prompt_output_ = PromptOutput{.num_tokens = static_cast<int>(request.prompt.size())};
  return spec_.echo ? PrepareEcho() : absl::OkStatus();
}

absl::Status Generation::PrepareEcho() {
  echo_ = MakeEcho(spec_, serving_.tokenizer);
  const int64_t bytes = OutputBytes(*echo_);
  if (bytes <= kMaxEchoBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("response.echo repeats a prompt of ", bytes,
                                                 " bytes, the most is ", kMaxEchoBytes));
}

absl::Status Generation::Submit() {
  absl::MutexLock lock(&mu_);
  if (!cancelled_.ok()) return cancelled_;
  if (absl::Now() >= spec_.request.deadline) {
    return absl::DeadlineExceededError("the deadline passed before the request was queued");
  }
  absl::Status status = serving_.engine.Submit(spec_.request, shared_from_this());
  if (status.ok()) phase_ = Phase::kSubmitted;
  return status;
}

void Generation::HandleInbox() {
  std::vector<Event> events;
  bool overflow = false;
  {
    absl::MutexLock lock(&inbox_mu_);
    events.swap(inbox_);
    overflow = inbox_overflow_;
  }
  if (overflow) ReachBound();
  for (Event& event : events) {
    std::visit([this](auto& e) { Handle(std::move(e)); }, event);
  }
  FlushDelta();
  {
    absl::MutexLock lock(&inbox_mu_);
    job_pending_ = !inbox_.empty();
    if (!job_pending_) return;
  }
  serving_.workers.PostOutput([self = shared_from_this()] { self->HandleInbox(); });
}

void Generation::Handle(Scheduled scheduled) {
  times_.queue = scheduled.time - arrival_;
  serving_.metrics.ObserveQueueTime(*times_.queue);
  serving_.request_log.Scheduled(spec_, *times_.queue);
}

void Generation::Handle(PromptLogprobs prompt) {
  if (!prompt_output_) return;
  const std::vector<int32_t>& ids = spec_.request.prompt;
  for (size_t i = 0; i < ids.size(); ++i) {
    PositionLogprob& position = prompt_output_->logprobs.emplace_back();
    position.token_id = ids[i];
    if (i > 0 && i <= prompt.logprobs.size()) position.logprob = prompt.logprobs[i - 1];
  }
  FlushPrompt();
}

void Generation::Handle(Token token) {
  if (stop_string_ || bound_reached_) return;  // drawn before the engine heard of it
  if (!times_.first_token) {
    times_.first_token = token.time - arrival_;
    serving_.metrics.ObserveFirstToken(*times_.first_token);
    serving_.request_log.FirstToken(spec_, *times_.first_token);
  } else {
    serving_.metrics.ObserveInterToken(token.time - last_token_time_);
  }
  last_token_time_ = token.time;
  ++completion_tokens_;
  if (!token.event.is_stop || spec_.include_stop) AppendToken(token.event);
}

void Generation::AppendToken(const TokenEvent& event) {
  delta_.token_ids.push_back(event.token_id);
  if (spec_.request.logprobs) {
    delta_.logprobs.push_back({event.token_id, event.logprob, event.top_logprobs});
  }
  if (event.is_stop) return;  // not part of the text
  TextDelta text = detokenizer_->Push(event.token_id);
  delta_.text += text.text;
  if (delta_.token_ids.size() >= kMaxDeltaTokens) FlushDelta();
  if (text.stop_index >= 0) Stop({spec_.stop[text.stop_index]});
}

void Generation::Stop(StopStringMatch match) {
  stop_string_ = std::move(match);
  absl::MutexLock lock(&mu_);
  serving_.engine.Cancel(spec_.request.id);
}

void Generation::Handle(FinishEvent event) {
  FinishOutput finish{.status = std::move(event.status),
                      .reason = event.reason,
                      .usage = event.usage,
                      .seed = spec_.request.sampling.seed};
  if (stop_string_) {
    finish.status = absl::OkStatus();
    finish.reason = FinishReason::kStop;
    finish.usage.completion_tokens = completion_tokens_;
    finish.match = *std::move(stop_string_);
  } else if (finish.status.ok()) {
    delta_.text += detokenizer_->Finish().text;
    if (event.stop_token_id &&
        Contains(spec_.request.stopping.stop_token_ids, *event.stop_token_id)) {
      finish.match = StopTokenMatch{*event.stop_token_id};
    } else if (event.stop_token_id) {
      finish.match = EosMatch{*event.stop_token_id};
    }
  }
  if (absl::IsInternal(finish.status)) serving_.readiness.Set(ServingState::kFailed);
  FlushPrompt();
  FlushDelta();
  End(std::move(finish));
}

void Generation::FlushPrompt() {
  if (!prompt_output_) return;
  // The entries of the echo are those of the prompt where there are any.
  if (echo_ && !echo_->logprobs.empty() && !prompt_output_->logprobs.empty()) {
    echo_->logprobs = prompt_output_->logprobs;
  }
  mailbox_.Put(*std::exchange(prompt_output_, std::nullopt));
  if (echo_ && !mailbox_.Put(*std::exchange(echo_, std::nullopt))) ReachBound();
  Notify();
}

void Generation::FlushDelta() {
  if (delta_.token_ids.empty() && delta_.text.empty()) return;
  FlushPrompt();
  if (!mailbox_.Put(std::exchange(delta_, {}))) ReachBound();
  Notify();
}

void Generation::ReachBound() {
  bound_reached_ = true;
  Cancel(bound_exceeded_);
}

void Generation::End(FinishOutput finish) {
  bool refused = false;
  {
    absl::MutexLock lock(&mu_);
    refused = phase_ == Phase::kEncoding && cancelled_.ok();
    phase_ = Phase::kEnded;
    if (!cancelled_.ok()) finish.status = cancelled_;
  }
  times_.total = absl::Now() - arrival_;
  if (refused) {
    serving_.request_log.Refused({spec_.request.id, spec_.trace_id}, finish.status);
  } else {
    serving_.request_log.Finished(spec_, finish, times_);
  }
  serving_.requests.Erase(spec_.request.id);
  mailbox_.Put(std::move(finish));
  Notify();
}

void Generation::Notify() {
  if (const auto listener = listener_.lock()) listener->OnOutput();
}

}  // namespace mea
