#include "engine/engine_core.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"

namespace mea {

EngineCore::EngineCore(Model* model, KvCache* kv, int max_num_seqs,
                       std::vector<int32_t> eos_token_ids)
    : model_(model),
      kv_(kv),
      eos_token_ids_(std::move(eos_token_ids)),
      scheduler_(
          {.max_num_seqs = max_num_seqs, .max_batch_tokens = model->limits().max_batch_tokens}, kv),
      sampler_(model->config().vocab_size) {
  // Decoding sequences must never be able to starve prompts of the budget.
  MEA_CHECK(max_num_seqs <= model->limits().max_batch_tokens);
  MEA_CHECK(max_num_seqs <= model->limits().max_num_seqs);
  MEA_CHECK(kv->layout().page_size >= model->limits().page_size);
}

EngineCore::~EngineCore() {
  FinishAll(absl::CancelledError("the engine stopped"));
  Deliver();
}

RequestLimits EngineCore::request_limits() const {
  return {.vocab_size = model_->config().vocab_size,
          .max_context = std::min(model_->config().max_position, kv_->max_tokens())};
}

void EngineCore::Add(Request request, std::shared_ptr<TokenSink> sink) {
  auto sequence = std::make_unique<Sequence>(std::move(request), std::move(sink),
                                             kv_->NewPageTable(), num_arrivals_++);
  const bool is_new = in_flight_.emplace(sequence->request.id, sequence.get()).second;
  MEA_CHECK(is_new);
  scheduler_.Add(std::move(sequence));
}

bool EngineCore::Launch(absl::Time now) {
  FinishExpired(now);
  if (!device_status_.ok()) FinishAll(device_status_);
  schedule_ = scheduler_.Next();
  if (schedule_.empty()) return false;

  batch_.Build(schedule_, kv_->layout().page_size);
  if (batch_.is_decode()) batch_.PadTo(model_->backend().PaddedRows(batch_.num_tokens()));
  model_->Forward(batch_, *kv_);

  drawing_.clear();
  draw_rows_.clear();
  bool wants_prompt_logprobs = false;
  for (size_t s = 0; s < schedule_.size(); ++s) {
    wants_prompt_logprobs |= schedule_[s].sequence->request.prompt_logprobs;
    if (!schedule_[s].draws()) continue;
    drawing_.push_back(schedule_[s].sequence);
    draw_rows_.push_back(batch_.last_row(static_cast<int>(s)));
  }
  // Logits of prompts come first and use the same memory.
  draws_started_ = !wants_prompt_logprobs && !draw_rows_.empty();
  if (draws_started_) StartDraws(0);
  return true;
}

StepReport EngineCore::Collect() {
  if (absl::Status s = ComputePromptLogprobs(); !s.ok()) return Fail(std::move(s));
  StepReport report;
  for (const ScheduledChunk& chunk : schedule_) {
    (chunk.sequence->is_decoding() ? report.num_decode_tokens : report.num_prefill_tokens) +=
        chunk.num_tokens;
    if (!std::exchange(chunk.sequence->was_scheduled, true)) {
      EventsOf(chunk.sequence).scheduled = true;
    }
  }
  scheduler_.Commit(schedule_);
  if (absl::Status s = FinishDraws(); !s.ok()) return Fail(std::move(s));
  ++num_steps_;
  prompt_tokens_ += report.num_prefill_tokens;
  return report;
}

StepReport EngineCore::Fail(absl::Status status) {
  device_status_ = std::move(status);
  FinishAll(device_status_);
  return {};
}

void EngineCore::FinishExpired(absl::Time now) {
  std::vector<Sequence*> expired;
  for (const auto& [id, sequence] : in_flight_) {
    if (sequence->request.deadline <= now) expired.push_back(sequence);
  }
  for (Sequence* sequence : expired) {
    Retire(sequence,
           {.status = absl::DeadlineExceededError(absl::StrCat(
                "the deadline passed after ", sequence->num_output(), " output tokens"))});
  }
}

// Row p of a prompt predicts token p + 1. A prompt computed anew after a preemption has them
// already.
absl::Status EngineCore::ComputePromptLogprobs() {
  for (size_t s = 0; s < schedule_.size(); ++s) {
    Sequence& sequence = *schedule_[s].sequence;
    if (!sequence.request.prompt_logprobs) continue;
    std::vector<float>& logprobs = sequence.prompt_logprobs;
    const int known = static_cast<int>(logprobs.size());
    const int end =
        std::min(sequence.num_computed + schedule_[s].num_tokens, sequence.prompt_length() - 1);
    for (int first = known; first < end;) {
      const int count = std::min(end - first, model_->limits().max_logit_rows);
      std::vector<int32_t> rows(count);
      std::iota(rows.begin(), rows.end(),
                batch_.first_row(static_cast<int>(s)) + first - sequence.num_computed);
      logprobs.resize(first + count);
      Backend& backend = model_->backend();
      backend.TokenLogprobs(model_->Logits(rows),
                            std::span(sequence.request.prompt).subspan(first + 1, count),
                            std::span(logprobs).subspan(first));
      if (absl::Status status = backend.Synchronize(); !status.ok()) return status;
      first += count;
    }
    if (end == sequence.prompt_length() - 1 && end > known) {
      EventsOf(&sequence).prompt_logprobs = logprobs;
    }
  }
  return absl::OkStatus();
}

void EngineCore::StartDraws(size_t first) {
  const size_t group = model_->limits().max_logit_rows;
  const size_t count = std::min(group, draw_rows_.size() - first);
  const TensorView logits = model_->Logits(std::span(draw_rows_).subspan(first, count));
  sampler_.Clear();
  for (size_t i = first; i < first + count; ++i) {
    const Sequence& sequence = *drawing_[i];
    const Request& request = sequence.request;
    std::vector<int32_t> banned;
    if (sequence.num_output() < request.stopping.min_tokens) banned = StopTokens(sequence);
    sampler_.Add({.params = &request.sampling,
                  .prompt = request.prompt,
                  .output = sequence.output(),
                  .banned_tokens = banned,
                  .num_logprobs = request.logprobs});
  }
  sampler_.Start(model_->backend(), logits);
}

absl::Status EngineCore::FinishDraws() {
  // Even a step that draws nothing is waited for: its inputs are the next one's to overwrite.
  if (drawing_.empty()) return model_->backend().Synchronize();
  const size_t group = model_->limits().max_logit_rows;
  for (size_t first = 0; first < drawing_.size(); first += group) {
    if (!draws_started_ || first > 0) StartDraws(first);
    if (absl::Status status = model_->backend().Synchronize(); !status.ok()) return status;
    const size_t end = std::min(first + group, drawing_.size());
    for (size_t i = first; i < end; ++i) {
      AcceptToken(drawing_[i], sampler_.Result(static_cast<int>(i - first)));
    }
  }
  return absl::OkStatus();
}

void EngineCore::AcceptToken(Sequence* sequence, absl::StatusOr<TokenEvent> event) {
  if (!event.ok()) return Retire(sequence, {.status = event.status()});
  ++generation_tokens_;
  const int32_t token = event->token_id;
  sequence->tokens.push_back(token);

  const std::vector<int32_t> stops = StopTokens(*sequence);
  event->is_stop = std::find(stops.begin(), stops.end(), token) != stops.end();
  const bool is_stop = event->is_stop;
  EventsOf(sequence).tokens.push_back(*std::move(event));

  if (is_stop) {
    Retire(sequence, {.reason = FinishReason::kStop, .stop_token_id = token});
  } else if (sequence->num_output() >= sequence->request.stopping.max_tokens ||
             sequence->num_tokens() >= request_limits().max_context) {
    Retire(sequence, {.reason = FinishReason::kLength});
  }
}

std::vector<int32_t> EngineCore::StopTokens(const Sequence& sequence) const {
  const StoppingParams& stopping = sequence.request.stopping;
  std::vector<int32_t> stops = stopping.stop_token_ids;
  if (!stopping.ignore_eos) {
    stops.insert(stops.end(), eos_token_ids_.begin(), eos_token_ids_.end());
  }
  return stops;
}

bool EngineCore::Finish(std::string_view id, absl::Status status) {
  const auto it = in_flight_.find(std::string(id));
  if (it == in_flight_.end()) return false;
  Retire(it->second, {.status = std::move(status), .reason = FinishReason::kCancelled});
  return true;
}

void EngineCore::FinishAll(absl::Status status) {
  while (!in_flight_.empty()) {
    Retire(in_flight_.begin()->second, {.status = status, .reason = FinishReason::kCancelled});
  }
}

// The pages are free before anybody hears of the end.
void EngineCore::Retire(Sequence* sequence, FinishEvent finish) {
  const KvLayout& layout = kv_->layout();
  if (!finish.status.ok()) finish.reason = FinishReason::kCancelled;
  finish.usage = {
      .prompt_tokens = sequence->prompt_length(),
      .completion_tokens = sequence->num_output(),
      .cached_tokens = sequence->num_cached,
      .kv_bytes = sequence->pages.num_pages() * layout.PageBytes(),
      .kv_bytes_uncompressed = sequence->pages.num_pages() * layout.UncompressedPageBytes()};
  EventsOf(sequence).finish = std::move(finish);
  in_flight_.erase(sequence->request.id);
  retired_.push_back(scheduler_.Remove(sequence));
  MEA_CHECK(retired_.back() != nullptr);
  sequence->pages.Clear();
}

SequenceEvents& EngineCore::EventsOf(Sequence* sequence) {
  if (!std::exchange(sequence->has_events, true)) with_events_.push_back(sequence);
  return sequence->events;
}

void EngineCore::Deliver() {
  for (Sequence* sequence : with_events_) {
    const SequenceEvents events = std::exchange(sequence->events, {});
    sequence->has_events = false;
    TokenSink& sink = *sequence->sink;
    if (events.scheduled) sink.OnScheduled();
    if (!events.prompt_logprobs.empty()) sink.OnPromptLogprobs(events.prompt_logprobs);
    for (const TokenEvent& token : events.tokens) sink.OnToken(token);
    if (events.finish.has_value()) sink.OnFinish(*events.finish);
  }
  with_events_.clear();
  retired_.clear();
}

std::vector<std::string> EngineCore::finished_ids() const {
  std::vector<std::string> ids;
  for (const auto& sequence : retired_) ids.push_back(sequence->request.id);
  return ids;
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
