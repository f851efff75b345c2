// The output of a Generation: from the inbox, which the engine fills, to the mailbox of the call.
#include <algorithm>
#include <utility>

#include "engine/clock.h"
#include "server/generation.h"
#include "server/limits.h"

namespace mea {

void Generation::HandleInbox() {
  std::vector<Message> messages;
  bool overflow = false;
  {
    absl::MutexLock lock(&inbox_mu_);
    messages.swap(inbox_);
    overflow = inbox_overflow_;
  }
  if (overflow) ReachBound();
  for (Message& message : messages) {
    std::visit([&](auto& e) { Handle(message.index, std::move(e)); }, message.event);
  }
  for (int i = 0; i < spec_.n; ++i) FlushDelta(i);
  {
    absl::MutexLock lock(&inbox_mu_);
    job_pending_ = !inbox_.empty();
    if (!job_pending_) return;
  }
  serving_.workers.PostOutput([self = shared_from_this()] { self->HandleInbox(); });
}

void Generation::Handle(int /*index*/, Scheduled scheduled) {
  if (times_.queue) return;
  times_.queue = scheduled.time - arrival_;
  serving_.metrics.ObserveQueueTime(*times_.queue);
  serving_.request_log.Scheduled(spec_, *times_.queue);
}

void Generation::Handle(int /*index*/, PromptLogprobs prompt) {
  if (!prompt_output_) return;
  const std::vector<int32_t>& ids = spec_.request.prompt;
  for (size_t i = 0; i < ids.size(); ++i) {
    PositionLogprob& position = prompt_output_->logprobs.emplace_back();
    position.token_id = ids[i];
    if (i == 0 || i > prompt.logprobs.size()) continue;
    position.logprob = prompt.logprobs[i - 1].logprob;
    position.top = std::move(prompt.logprobs[i - 1].top);
  }
  FlushPrompt();
}

void Generation::Handle(int index, Token token) {
  Completion& completion = completions_[index];
  if (completion.stop_string || bound_reached_) return;  // drawn before the engine heard of it
  if (spec_.echo_only) return;
  if (!times_.first_token) {
    times_.first_token = token.time - arrival_;
    serving_.metrics.ObserveFirstToken(*times_.first_token);
    serving_.request_log.FirstToken(spec_, *times_.first_token);
  }
  if (completion.num_tokens > 0) {
    serving_.metrics.ObserveInterToken(token.time - completion.last_token_time);
  }
  completion.last_token_time = token.time;
  ++completion.num_tokens;
  if (!token.event.is_stop || spec_.include_stop) AppendToken(index, token.event);
}

void Generation::AppendToken(int index, const TokenEvent& event) {
  Completion& completion = completions_[index];
  completion.delta.token_ids.push_back(event.token_id);
  if (spec_.request.logprobs) {
    completion.delta.logprobs.push_back(
        {.token_id = event.token_id,
         .logprob = event.logprob,
         .top = event.top_logprobs,
         .text_offset = echo_code_points_ + completion.detokenizer->num_code_points()});
  }
  // The end-of-sequence token is not text; a stop token is, if include_stop passed it on.
  if (event.is_stop && !IsStopToken(event.token_id)) return;
  TextDelta text = completion.detokenizer->Push(event.token_id);
  completion.delta.text += text.text;
  if (completion.reply_parser) AppendReply(completion, completion.reply_parser->Push(text.text));
  if (completion.delta.token_ids.size() >= kMaxDeltaTokens) FlushDelta(index);
  if (text.stop_index >= 0) Stop(index, {spec_.stop[text.stop_index]});
}

bool Generation::IsStopToken(int32_t id) const {
  const std::vector<int32_t>& ids = spec_.request.stopping.stop_token_ids;
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

void Generation::AppendReply(Completion& completion, ReplyDelta reply) {
  if (reply.empty()) return;
  if (!completion.delta.reply) completion.delta.reply.emplace();
  completion.delta.reply->Append(std::move(reply));
}

void Generation::Stop(int index, StopStringMatch match) {
  completions_[index].stop_string = std::move(match);
  absl::MutexLock lock(&mu_);
  serving_.engine.Cancel(spec_.request.id, index);
}

void Generation::Handle(int index, FinishEvent event) {
  Completion& completion = completions_[index];
  FinishOutput finish{.status = std::move(event.status),
                      .index = index,
                      .reason = event.reason,
                      .usage = event.usage,
                      .seed = spec_.request.sampling.seed + index};
  if (spec_.echo_only) finish.usage.completion_tokens = 0;
  if (completion.stop_string) {
    finish.status = absl::OkStatus();
    finish.reason = FinishReason::kStop;
    finish.usage.completion_tokens = completion.num_tokens;
    finish.match = *std::move(completion.stop_string);
  } else if (finish.status.ok()) {
    const std::string rest = completion.detokenizer->Finish().text;
    if (!spec_.echo_only) completion.delta.text += rest;
    if (completion.reply_parser) AppendReply(completion, completion.reply_parser->Push(rest));
    if (event.stop_token_id && IsStopToken(*event.stop_token_id)) {
      finish.match = StopTokenMatch{*event.stop_token_id};
    } else if (event.stop_token_id) {
      finish.match = EosMatch{*event.stop_token_id};
    }
  }
  if (completion.reply_parser && finish.status.ok()) {
    // A stop string inside a call cuts the call off, so nobody should run it.
    const bool cut_off = completion.stop_string && completion.reply_parser->in_call();
    AppendReply(completion, completion.reply_parser->Finish());
    finish.has_tool_calls = completion.reply_parser->has_tool_calls() && !cut_off;
  }
  if (!serving_.engine.health().ok()) serving_.readiness.Set(ServingState::kFailed);
  FlushPrompt();
  FlushDelta(index);
  EndCompletion(std::move(finish));
}

void Generation::FlushPrompt() {
  if (!prompt_output_) return;
  // The entries of the echo are those of the prompt, if there are any.
  if (echo_ && !prompt_output_->logprobs.empty()) {
    for (size_t i = 0; i < echo_->logprobs.size(); ++i) {
      const int64_t offset = echo_->logprobs[i].text_offset;
      echo_->logprobs[i] = prompt_output_->logprobs[i];
      echo_->logprobs[i].text_offset = offset;
    }
  }
  mailbox_.Put(*std::exchange(prompt_output_, std::nullopt));
  for (int i = 0; echo_ && i < spec_.n; ++i) {
    echo_->index = i;
    if (!mailbox_.Put(*echo_)) ReachBound();
  }
  echo_.reset();
  Notify();
}

void Generation::FlushDelta(int index) {
  DeltaOutput& delta = completions_[index].delta;
  if (delta.token_ids.empty() && delta.text.empty() && !delta.reply) return;
  FlushPrompt();
  if (!mailbox_.Put(std::exchange(delta, {.index = index}))) ReachBound();
  Notify();
}

void Generation::ReachBound() {
  bound_reached_ = true;
  Cancel(bound_exceeded_);
}

// If one completion fails, all of them end.
void Generation::EndCompletion(FinishOutput finish) {
  usage_.prompt_tokens = finish.usage.prompt_tokens;
  usage_.completion_tokens += finish.usage.completion_tokens;
  max_completion_tokens_ = std::max(max_completion_tokens_, finish.usage.completion_tokens);
  usage_.cached_tokens = std::max(usage_.cached_tokens, finish.usage.cached_tokens);
  usage_.num_preemptions += finish.usage.num_preemptions;
  usage_.kv_bytes += finish.usage.kv_bytes;
  usage_.kv_bytes_uncompressed += finish.usage.kv_bytes_uncompressed;
  finish.is_last = ++num_ended_ == spec_.n;
  if (!finish.status.ok() && failed_.ok()) {
    failed_ = finish.status;
    absl::MutexLock lock(&mu_);
    if (!finish.is_last) serving_.engine.Cancel(spec_.request.id);
  }
  if (finish.is_last) {
    finish.status = failed_;
    End(std::move(finish));
  } else if (failed_.ok()) {
    mailbox_.Put(std::move(finish));
    Notify();
  }
}

void Generation::End(FinishOutput finish) {
  bool refused = false;
  bool computed = false;
  {
    absl::MutexLock lock(&mu_);
    refused = phase_ == Phase::kEncoding && cancelled_.ok();
    computed = phase_ == Phase::kSubmitted;
    phase_ = Phase::kEnded;
    if (!cancelled_.ok()) finish.status = cancelled_;
  }
  times_.total = Now() - arrival_;
  if (refused) {
    const RequestTag tag{spec_.request.id, spec_.trace, spec_.label};
    serving_.request_log.Refused(tag, finish.status);
    serving_.request_traces.Refused(tag, finish.status, arrival_);
  } else {
    FinishOutput all = finish;
    all.usage = usage_;
    serving_.request_log.Finished(spec_, all, times_);
    serving_.request_traces.Finished(spec_, all, times_);
    if (finish.status.ok()) {
      serving_.metrics.ObserveRequest({.prompt_tokens = usage_.prompt_tokens,
                                       .generation_tokens = usage_.completion_tokens,
                                       .max_generation_tokens = max_completion_tokens_,
                                       .n = spec_.n,
                                       .max_tokens = spec_.request.stopping.max_tokens,
                                       .queue = times_.queue,
                                       .first_token = times_.first_token,
                                       .total = times_.total});
    }
  }
  serving_.requests.Erase(spec_.request.id);
  key_share_.End(computed, usage_.completion_tokens);  // before the client can send another request
  mailbox_.Put(std::move(finish));
  Notify();
}

void Generation::Notify() {
  if (const auto listener = listener_.lock()) listener->OnOutput();
}

}  // namespace mea
