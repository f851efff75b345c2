#include "engine/engine_core.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/prompt_logprobs.h"
#include "engine/sequence_list.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

// Whether a draw depends on which tokens were drawn before, not just on how many.
bool DependsOnOutput(const Request& request) {
  const SamplingParams& params = request.sampling;
  return request.grammar != nullptr || params.repetition_penalty != 1.0f ||
         params.presence_penalty != 0.0f || params.frequency_penalty != 0.0f;
}

}  // namespace

EngineCore::EngineCore(Model* model, KvCache* kv, int max_num_seqs,
                       std::vector<int32_t> eos_token_ids, std::optional<absl::Duration> target_itl)
    : model_(model),
      kv_(kv),
      eos_token_ids_(std::move(eos_token_ids)),
      scheduler_(
          {.max_num_seqs = max_num_seqs, .max_batch_tokens = model->limits().max_batch_tokens}, kv),
      budget_(target_itl),
      steps_{Step(model->config().vocab_size), Step(model->config().vocab_size)} {
  // Decoding sequences must not use up the budget of prompts.
  MEA_CHECK(max_num_seqs <= model->limits().max_batch_tokens);
  MEA_CHECK(max_num_seqs <= model->limits().max_num_seqs);
  MEA_CHECK(kv->layout().page_size >= model->limits().page_size);
}

EngineCore::~EngineCore() {
  FinishAll(absl::CancelledError("the engine stopped"));
  Deliver();
  // Steps in flight may still write into this memory.
  if (num_steps_in_flight_ > 0) (void)model_->Synchronize();
}

RequestLimits EngineCore::request_limits() const {
  return {.vocab_size = model_->config().vocab_size,
          .max_context = std::min(model_->config().max_position, kv_->max_tokens())};
}

void EngineCore::Add(Request request, std::vector<std::shared_ptr<TokenSink>> sinks) {
  std::vector<Sequence*>& completions = in_flight_[request.id];
  MEA_CHECK(completions.empty() && !sinks.empty());
  Scheduler::Queue sequences;
  for (std::shared_ptr<TokenSink>& sink : sinks) {
    const int index = static_cast<int>(sequences.size());
    Request own = request;
    own.sampling.seed += index;
    own.prompt_logprobs = request.prompt_logprobs && index == 0;
    sequences.push_back(std::make_unique<Sequence>(std::move(own), std::move(sink),
                                                   kv_->NewPageTable(), num_arrivals_++, index));
    completions.push_back(sequences.back().get());
    if (request.grammar != nullptr) {
      sequences.back()->grammar.emplace(*request.grammar, StopTokens(*sequences.back()));
    }
  }
  std::unique_ptr<Sequence> first = std::move(sequences.front());
  sequences.erase(sequences.begin());
  scheduler_.Add(std::move(first), std::move(sequences));
}

bool EngineCore::can_launch() const {
  return num_steps_in_flight_ == 0 ||
         (num_steps_in_flight_ == 1 && steps_[oldest_].lets_next_begin);
}

bool EngineCore::Launch(absl::Time now) {
  MEA_CHECK(can_launch());
  FinishExpired(now);
  if (!device_status_.ok()) FinishAll(device_status_);
  Step& step = steps_[(oldest_ + num_steps_in_flight_) % 2];
  const int prompt_budget = budget_.PromptTokens(scheduler_.load());
  step.schedule = scheduler_.Next(prompt_budget, std::move(step.schedule));
  if (step.schedule.empty()) return false;

  step.report = {.prompt_budget = std::min(prompt_budget, model_->limits().max_batch_tokens),
                 .launched = now};
  step.wants_prompt_logprobs = false;
  for (const ScheduledChunk& chunk : step.schedule) {
    Sequence& sequence = *chunk.sequence;
    ++sequence.num_steps_in_flight;
    if (!std::exchange(sequence.was_scheduled, true)) outbox_.EventsOf(&sequence).scheduled = now;
    step.wants_prompt_logprobs |= sequence.request.prompt_logprobs;
    (chunk.is_decode ? step.report.num_decode_tokens : step.report.num_prefill_tokens) +=
        chunk.num_tokens;
  }

  Batch& batch = step.batch;
  batch.Build(step.schedule, kv_->layout().page_size);
  if (batch.is_decode()) batch.PadTo(model_->backend().PaddedRows(batch.num_tokens()));
  model_->Forward(batch, *kv_);
  PrepareDraws(step);
  // Logits of prompts come first and use the same memory.
  step.draws_started = !step.wants_prompt_logprobs && !step.draws.empty();
  if (step.draws_started) StartDraws(step, 0);
  // Draws report damage in single rows that draw.
  const auto is_told = [](const ScheduledChunk& c) { return c.draws && c.num_tokens == 1; };
  step.probe =
      std::ranges::all_of(step.schedule, is_told) ? RowProbe::Answer() : model_->ProbeRows();
  step.event = model_->RecordEvent();
  ++num_steps_in_flight_;
  return true;
}

// From here on every drawn token has its place; the next step reads it on the device.
void EngineCore::PrepareDraws(Step& step) {
  step.draws.clear();
  step.draw_rows.clear();
  step.sampler.Clear();
  bool next_needs_tokens = false;
  for (size_t s = 0; s < step.schedule.size(); ++s) {
    if (!step.schedule[s].draws) continue;
    Sequence& sequence = *step.schedule[s].sequence;
    const Request& request = sequence.request;
    std::vector<int32_t> banned;
    int mask = -1;
    if (sequence.grammar.has_value()) {
      if (sequence.has_ended) continue;
      const Sampler::Mask place = step.sampler.AddMask();
      if (!FillMask(sequence, place)) continue;
      mask = place.index;
    } else if (sequence.num_output() < request.stopping.min_tokens) {
      banned = StopTokens(sequence);
    }
    step.sampler.Add({.params = &request.sampling,
                      .prompt = request.prompt,
                      .output = sequence.output(),
                      .banned_tokens = banned,
                      .num_logprobs = request.logprobs,
                      .mask = mask});
    step.draw_rows.push_back(step.batch.last_row(static_cast<int>(s)));
    step.draws.push_back({.sequence = &sequence, .position = sequence.num_tokens()});
    sequence.tokens.push_back(-static_cast<int32_t>(step.draws.size()));
    ++sequence.num_pending;
    sequence.awaits_end = HasAllTokens(sequence, sequence.num_tokens());
    next_needs_tokens |= !sequence.awaits_end && DependsOnOutput(request);
  }
  step.lets_next_begin = model_->backend().device() != Device::kCpu &&
                         !step.wants_prompt_logprobs && !next_needs_tokens &&
                         std::ssize(step.draws) <= model_->limits().max_logit_rows;
}

// On a device the model is running meanwhile.
bool EngineCore::FillMask(Sequence& sequence, Sampler::Mask mask) {
  const bool may_stop = sequence.num_output() >= sequence.request.stopping.min_tokens;
  absl::Status status = sequence.grammar->FillMask(may_stop, mask.words);
  if (!status.ok()) Retire(&sequence, {.status = std::move(status)});
  return !sequence.has_ended;
}

StepReport EngineCore::Collect() {
  MEA_CHECK(num_steps_in_flight_ > 0);
  Step& step = steps_[oldest_];
  // Wait even for a step that draws nothing: a later step overwrites its inputs.
  if (absl::Status s = model_->WaitEvent(step.event); !s.ok()) return Fail(std::move(s));
  EndDamagedPrompts(step);
  if (absl::Status s = ComputePromptLogprobs(step); !s.ok()) return Fail(std::move(s));
  if (absl::Status s = FinishDraws(step); !s.ok()) return Fail(std::move(s));
  EndDamagedDraws(step);
  // No other sequence shares damaged pages, because theirs has ended.
  scheduler_.Commit(step.schedule);
  AcceptTokens(step);
  for (const ScheduledChunk& chunk : step.schedule) --chunk.sequence->num_steps_in_flight;
  oldest_ = (oldest_ + 1) % 2;
  --num_steps_in_flight_;
  outbox_.DropDelivered();
  ++num_steps_;
  prompt_tokens_ += step.report.num_prefill_tokens;
  return step.report;
}

StepReport EngineCore::Fail(absl::Status status) {
  device_status_ = std::move(status);
  FinishAll(device_status_);
  // The results of steps in flight are dropped.
  num_steps_in_flight_ = 0;
  outbox_.ForgetSteps();
  return {};
}

void EngineCore::FinishExpired(absl::Time now) {
  std::vector<Sequence*> expired;
  for (const auto& [id, completions] : in_flight_) {
    if (completions.front()->request.deadline > now) continue;
    expired.insert(expired.end(), completions.begin(), completions.end());
  }
  for (Sequence* sequence : expired) {
    Retire(sequence,
           {.status = absl::DeadlineExceededError(absl::StrCat(
                "the deadline passed after ",
                sequence->num_known_tokens() - sequence->prompt_length(), " output tokens"))});
  }
}

absl::Status EngineCore::ComputePromptLogprobs(Step& step) {
  if (!step.wants_prompt_logprobs) return absl::OkStatus();
  for (size_t s = 0; s < step.schedule.size(); ++s) {
    const ScheduledChunk& chunk = step.schedule[s];
    Sequence& sequence = *chunk.sequence;
    if (!sequence.request.prompt_logprobs || sequence.has_ended) continue;
    const size_t known = sequence.prompt_logprobs.size();
    MEA_RETURN_IF_ERROR(ExtendPromptLogprobs(
        *model_, step.batch.first_row(static_cast<int>(s)) - chunk.begin, chunk.end(), sequence));
    const size_t now = sequence.prompt_logprobs.size();
    if (now > known && now + 1 == sequence.request.prompt.size()) {
      outbox_.EventsOf(&sequence).prompt_logprobs = sequence.prompt_logprobs;
    }
  }
  return absl::OkStatus();
}

void EngineCore::StartDraws(Step& step, size_t first) {
  const size_t group = model_->limits().max_logit_rows;
  const size_t count = std::min(group, step.draw_rows.size() - first);
  const TensorView logits = model_->Logits(std::span(step.draw_rows).subspan(first, count));
  step.sampler.Start(model_->backend(), logits, first);
}

absl::Status EngineCore::FinishDraws(Step& step) {
  const size_t group = model_->limits().max_logit_rows;
  for (size_t first = step.draws_started ? group : 0; first < step.draws.size(); first += group) {
    StartDraws(step, first);
    MEA_RETURN_IF_ERROR(model_->Synchronize());
  }
  return absl::OkStatus();
}

// Applies to all completions: they have the same prompt.
void EngineCore::EndDamagedPrompts(const Step& step) {
  if (step.probe.empty()) return;
  for (int s = 0; s < std::ssize(step.schedule); ++s) {
    const Sequence& sequence = *step.schedule[s].sequence;
    if (sequence.has_ended || step.schedule[s].is_decode) continue;
    bool is_finite = true;
    for (int row = step.batch.first_row(s); row <= step.batch.last_row(s); ++row) {
      is_finite &= step.probe.IsFinite(row);
    }
    if (is_finite) continue;
    Finish(sequence.request.id,
           absl::InternalError("what the model makes of the prompt is not finite: weights or "
                               "hardware are damaged"));
  }
}

void EngineCore::EndDamagedDraws(const Step& step) {
  for (size_t i = 0; i < step.draws.size(); ++i) {
    if (step.draws[i].sequence->has_ended) continue;
    absl::Status status = step.sampler.Check(static_cast<int>(i));
    if (!status.ok()) Retire(step.draws[i].sequence, {.status = std::move(status)});
  }
}

void EngineCore::AcceptTokens(const Step& step) {
  for (size_t i = 0; i < step.draws.size(); ++i) {
    if (step.draws[i].sequence->has_ended) continue;
    AcceptToken(step.draws[i], step.sampler.Result(static_cast<int>(i)));
  }
}

void EngineCore::AcceptToken(const Draw& draw, TokenEvent event) {
  Sequence* const sequence = draw.sequence;
  ++generation_tokens_;
  const int32_t token = event.token_id;
  sequence->tokens[draw.position] = token;
  --sequence->num_pending;

  const bool is_stop = event.is_stop = IsStopToken(*sequence, token);
  absl::StatusOr<bool> is_complete = false;
  if (sequence->grammar.has_value()) is_complete = sequence->grammar->Accept(token, is_stop);
  if (!is_complete.ok()) return Retire(sequence, {.status = is_complete.status()});
  outbox_.EventsOf(sequence).tokens.push_back(std::move(event));

  if (*is_complete && !is_stop) {
    Retire(sequence, {.reason = FinishReason::kStop});
  } else if (is_stop) {
    Retire(sequence, {.reason = FinishReason::kStop, .stop_token_id = token});
  } else if (HasAllTokens(*sequence, sequence->num_known_tokens())) {
    Retire(sequence, {.reason = FinishReason::kLength});
  }
}

bool EngineCore::HasAllTokens(const Sequence& sequence, int num_tokens) const {
  return num_tokens - sequence.prompt_length() >= sequence.request.stopping.max_tokens ||
         num_tokens >= request_limits().max_context;
}

bool EngineCore::IsStopToken(const Sequence& sequence, int32_t token) const {
  const StoppingParams& stopping = sequence.request.stopping;
  const auto has = [token](const std::vector<int32_t>& ids) {
    return std::find(ids.begin(), ids.end(), token) != ids.end();
  };
  return has(stopping.stop_token_ids) || (!stopping.ignore_eos && has(eos_token_ids_));
}

std::vector<int32_t> EngineCore::StopTokens(const Sequence& sequence) const {
  const StoppingParams& stopping = sequence.request.stopping;
  std::vector<int32_t> stops = stopping.stop_token_ids;
  if (!stopping.ignore_eos) {
    stops.insert(stops.end(), eos_token_ids_.begin(), eos_token_ids_.end());
  }
  return stops;
}

bool EngineCore::Finish(std::string_view id, absl::Status status, std::optional<int> completion) {
  const auto it = in_flight_.find(std::string(id));
  if (it == in_flight_.end()) return false;
  bool found = false;
  const std::vector<Sequence*> completions = it->second;  // Retire changes it
  for (Sequence* sequence : completions) {
    if (completion.has_value() && sequence->completion != *completion) continue;
    Retire(sequence, {.status = status, .reason = FinishReason::kCancelled});
    found = true;
  }
  return found;
}

void EngineCore::FinishAll(absl::Status status) {
  while (!in_flight_.empty()) {
    Retire(in_flight_.begin()->second.back(),
           {.status = status, .reason = FinishReason::kCancelled});
  }
}

// The pages are free before anybody is told of the end.
void EngineCore::Retire(Sequence* sequence, FinishEvent finish) {
  const KvLayout& layout = kv_->layout();
  sequence->has_ended = true;
  sequence->tokens.resize(sequence->num_known_tokens());
  sequence->num_pending = 0;
  if (!finish.status.ok()) finish.reason = FinishReason::kCancelled;
  if (sequence->request.deadline != absl::InfiniteFuture()) {
    deadlines_.met += finish.status.ok();
    deadlines_.missed += absl::IsDeadlineExceeded(finish.status);
  }
  finish.usage = {
      .prompt_tokens = sequence->prompt_length(),
      .completion_tokens = sequence->num_output(),
      .cached_tokens = sequence->num_cached,
      .num_preemptions = sequence->num_preemptions,
      .kv_bytes = sequence->pages.num_pages() * layout.PageBytes(),
      .kv_bytes_uncompressed = sequence->pages.num_pages() * layout.UncompressedPageBytes()};
  outbox_.EventsOf(sequence).finish = std::move(finish);
  const auto request = in_flight_.find(sequence->request.id);
  std::erase(request->second, sequence);
  if (request->second.empty()) in_flight_.erase(request);
  std::unique_ptr<Sequence> ended = scheduler_.Remove(sequence);
  MEA_CHECK(ended != nullptr);
  ended->pages.Clear();
  outbox_.Keep(std::move(ended));
}

std::vector<std::string> EngineCore::finished_ids() const {
  std::vector<std::string> ids;
  for (const auto& sequence : outbox_.ended()) {
    if (!in_flight_.contains(sequence->request.id)) ids.push_back(sequence->request.id);
  }
  return ids;
}

LoadForecast EngineCore::MakeForecast() const {
  LoadForecast forecast = scheduler_.MakeForecast(request_limits().max_context);
  forecast.prompt_budget =
      std::min(forecast.prompt_budget, budget_.UsualPromptTokens(scheduler_.load()));
  forecast.step_time = budget_.step_time().Fit();
  forecast.is_known = budget_.step_time().is_known();
  return forecast;
}

std::vector<SequenceInfo> EngineCore::ListSequences() const {
  std::vector<SequenceInfo> list;
  for (const auto& [sequence, is_running] : scheduler_.First(kMaxListedSequences)) {
    list.push_back(InfoOf(*sequence, is_running, kv_->layout()));
  }
  return list;
}

EngineStats EngineCore::stats() const {
  return {.kv = kv_->stats(),
          .num_running = scheduler_.num_running(),
          .num_waiting = scheduler_.num_waiting(),
          .num_waiting_tokens = scheduler_.num_waiting_tokens(),
          .num_preemptions = scheduler_.num_preemptions(),
          .prompt_tokens = prompt_tokens_,
          .generation_tokens = generation_tokens_,
          .num_steps = num_steps_};
}

}  // namespace mea
