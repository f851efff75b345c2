#include "engine/scheduler.h"

#include <algorithm>
#include <utility>

#include "engine/prompt_shares.h"

namespace mea {
namespace {

bool GoesBefore(const Sequence& a, const Sequence& b) {
  return a.turn != b.turn ? a.turn < b.turn : a.arrival < b.arrival;
}

// There is something to compute before its end is known.
bool HasWork(const Sequence& sequence) {
  return sequence.num_to_compute() > 0 && !(sequence.is_decoding() && sequence.awaits_end);
}

PromptLeft LeftOf(const Sequence& sequence) {
  return {.priority = sequence.request.priority, .num_tokens = sequence.num_to_compute()};
}

void Insert(std::vector<std::unique_ptr<Sequence>>& queue, std::unique_ptr<Sequence> sequence) {
  const auto place =
      std::upper_bound(queue.begin(), queue.end(), sequence,
                       [](const auto& a, const auto& b) { return GoesBefore(*a, *b); });
  queue.insert(place, std::move(sequence));
}

std::unique_ptr<Sequence> Extract(std::vector<std::unique_ptr<Sequence>>& queue,
                                  const Sequence* sequence) {
  const auto it = std::find_if(queue.begin(), queue.end(),
                               [&](const auto& candidate) { return candidate.get() == sequence; });
  if (it == queue.end()) return nullptr;
  std::unique_ptr<Sequence> extracted = std::move(*it);
  queue.erase(it);
  return extracted;
}

}  // namespace

void Scheduler::Add(std::unique_ptr<Sequence> sequence, Queue siblings) {
  MEA_CHECK(std::ssize(siblings) < limits_.max_num_seqs);
  sequence->turn = num_steps_ - int64_t{limits_.steps_per_priority} * sequence->request.priority;
  for (std::unique_ptr<Sequence>& sibling : siblings) {
    sibling->turn = sequence->turn;
    sibling->waits_for = sequence.get();
    siblings_.push_back(std::move(sibling));
  }
  Enqueue(std::move(sequence));
}

std::unique_ptr<Sequence> Scheduler::Remove(const Sequence* sequence) {
  std::unique_ptr<Sequence> removed = Extract(running_, sequence);
  if (removed == nullptr) removed = Dequeue(sequence);
  if (removed == nullptr) return Extract(siblings_, sequence);
  ReplaceFirst(*removed);
  LearnFrom(*removed);
  return removed;
}

int Scheduler::NumSiblings(const Sequence& first) const {
  return static_cast<int>(std::ranges::count_if(
      siblings_, [&](const auto& sibling) { return sibling->waits_for == &first; }));
}

int Scheduler::NumPlacesTaken() const {
  // Running sequences have pages, waiting ones have none.
  const auto holds_place = [](const auto& sibling) {
    return sibling->waits_for->pages.num_pages() > 0;
  };
  return num_running() + static_cast<int>(std::ranges::count_if(siblings_, holds_place));
}

void Scheduler::ReplaceFirst(const Sequence& first) {
  const auto heir =
      std::ranges::find(siblings_, &first, [](const auto& sibling) { return sibling->waits_for; });
  if (heir == siblings_.end()) return;
  std::unique_ptr<Sequence> sequence = std::move(*heir);
  siblings_.erase(heir);
  sequence->waits_for = nullptr;
  for (const std::unique_ptr<Sequence>& sibling : siblings_) {
    if (sibling->waits_for == &first) sibling->waits_for = sequence.get();
  }
  Enqueue(std::move(sequence));
}

// Their places were reserved; their pages were not.
void Scheduler::BeginSiblings(const Sequence& first) {
  const auto begin =
      std::stable_partition(siblings_.begin(), siblings_.end(),
                            [&](const auto& sibling) { return sibling->waits_for != &first; });
  for (auto it = begin; it != siblings_.end(); ++it) Fork(first, std::move(*it));
  siblings_.erase(begin, siblings_.end());
}

// All but the last token of the prompt: it computes that one itself, because the draw needs its
// logits.
void Scheduler::Fork(const Sequence& first, std::unique_ptr<Sequence> sibling) {
  const int num_tokens = first.prompt_length() - 1;
  sibling->waits_for = nullptr;
  ReserveTables(*sibling);
  if (!kv_->Fork(first.pages, num_tokens, sibling->pages) ||
      !kv_->Reserve(sibling->pages, num_tokens, sibling->num_tokens())) {
    sibling->pages.Clear();
    Enqueue(std::move(sibling));
    return;
  }
  sibling->num_computed = sibling->num_indexed = num_tokens;
  sibling->num_cached = first.num_cached;
  Insert(running_, std::move(sibling));
}

void Scheduler::LearnFrom(const Sequence& ended) {
  const StoppingParams& stopping = ended.request.stopping;
  if (!EndsAtLengthOnly(stopping))
    output_share_.Add(ended.num_known_tokens() - ended.prompt_length(), stopping.max_tokens);
}

void Scheduler::Enqueue(std::unique_ptr<Sequence> sequence) {
  num_waiting_tokens_ += sequence->prompt_length();
  Insert(waiting_, std::move(sequence));
}

std::unique_ptr<Sequence> Scheduler::Dequeue(const Sequence* sequence) {
  std::unique_ptr<Sequence> dequeued = Extract(waiting_, sequence);
  if (dequeued != nullptr) num_waiting_tokens_ -= dequeued->prompt_length();
  return dequeued;
}

StepLoad Scheduler::load() const {
  StepLoad load;
  for (const std::unique_ptr<Sequence>& sequence : running_) {
    if (!HasWork(*sequence)) continue;
    ++(sequence->is_decoding() ? load.num_decodes : load.num_prompts);
  }
  load.num_prompts += std::min(num_waiting(), limits_.max_num_seqs - num_running());
  return load;
}

Schedule Scheduler::Next(int prompt_budget, Schedule memory) {
  MEA_CHECK(prompt_budget > 0);
  Schedule schedule = std::move(memory);
  schedule.clear();
  const bool has_room = ReserveOrPreempt();
  ScheduleDecodes(schedule);
  const int budget =
      std::min(prompt_budget, limits_.max_batch_tokens - static_cast<int>(schedule.size()));
  if (has_room) AdmitWaiting(budget);
  SchedulePrompts(schedule, budget);
  MEA_CHECK(!schedule.empty() || empty() ||
            std::any_of(running_.begin(), running_.end(),
                        [](const auto& sequence) { return sequence->awaits_end; }));
  if (!schedule.empty()) ++num_steps_;
  return schedule;
}

void Scheduler::Append(Schedule& schedule, Sequence& sequence, int num_tokens) {
  ScheduledChunk chunk{.sequence = &sequence,
                       .begin = sequence.num_computed,
                       .num_tokens = num_tokens,
                       .is_decode = sequence.is_decoding()};
  sequence.num_computed = chunk.end();
  chunk.draws = sequence.num_to_compute() == 0;
  schedule.push_back(chunk);
}

// A prompt has all its pages from the beginning, except when windows move on and other sequences
// still hold the pages that they leave.
bool Scheduler::ReserveOrPreempt() {
  const int64_t num_preemptions = num_preemptions_;
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence& sequence = *running_[i];
    if (!HasWork(sequence)) continue;
    // The last one may have to make room for itself.
    while (i < running_.size() &&
           !kv_->Reserve(sequence.pages, sequence.num_computed, sequence.num_tokens())) {
      PreemptLast();
    }
  }
  return num_preemptions_ == num_preemptions;
}

void Scheduler::ScheduleDecodes(Schedule& schedule) {
  for (const std::unique_ptr<Sequence>& sequence : running_) {
    if (sequence->is_decoding() && !sequence->awaits_end) Append(schedule, *sequence, 1);
  }
}

void Scheduler::SchedulePrompts(Schedule& schedule, int budget) {
  const std::vector<Sequence*> prompts = Prompts();
  std::vector<PromptLeft> left;
  for (const Sequence* prompt : prompts) left.push_back(LeftOf(*prompt));
  const std::vector<int> shares = DividePromptBudget(budget, left);
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (shares[i] > 0) Append(schedule, *prompts[i], shares[i]);
  }
}

std::vector<Sequence*> Scheduler::Prompts() const {
  std::vector<Sequence*> prompts;
  for (const std::unique_ptr<Sequence>& sequence : running_) {
    if (HasWork(*sequence)) prompts.push_back(sequence.get());
  }
  return prompts;
}

bool Scheduler::WouldGetShare(const Sequence& waiting, int budget) const {
  std::vector<PromptLeft> left;
  size_t place = 0;  // of `waiting`
  for (const Sequence* prompt : Prompts()) {
    if (GoesBefore(*prompt, waiting)) ++place;
    left.push_back(LeftOf(*prompt));
  }
  left.insert(left.begin() + place, LeftOf(waiting));
  return GetsShare(budget, left, place);
}

// Whoever gets no share yet stays in the queue: its pages can be another's meanwhile, and what is
// being computed may turn out to be its beginning. But those who wait before a shorter one have to
// be admitted with it.
void Scheduler::AdmitWaiting(int budget) {
  int places = limits_.max_num_seqs - NumPlacesTaken();
  while (!waiting_.empty()) {
    Sequence* const head = waiting_.front().get();
    places -= 1 + NumSiblings(*head);
    if (places < 0) return;
    const auto end = waiting_.begin() + std::min(num_waiting(), places + 1);
    const auto best = std::min_element(waiting_.begin(), end, [](const auto& a, const auto& b) {
      return IsServedBefore(LeftOf(*a), LeftOf(*b));
    });
    if (!WouldGetShare(*head, budget) && !WouldGetShare(**best, budget)) return;
    if (!TakePages(*head)) return;
    Insert(running_, Dequeue(head));
  }
}

void Scheduler::ReserveTables(Sequence& sequence) const {
  const int64_t most = sequence.prompt_length() + int64_t{sequence.request.stopping.max_tokens};
  const int num_tokens = static_cast<int>(std::min<int64_t>(most, kv_->max_tokens()));
  sequence.tokens.reserve(num_tokens);
  kv_->ReserveCapacity(sequence.pages, num_tokens);
}

// Pages for all known tokens, so that a prompt that has begun never stops for lack of pages. Tokens
// in the prefix cache are not computed, unless the logits of the prompt are wanted.
bool Scheduler::TakePages(Sequence& sequence) {
  const Request& request = sequence.request;
  ReserveTables(sequence);
  const bool looks_up = !request.bypass_prefix_cache && !request.prompt_logprobs;
  const int found =
      looks_up ? kv_->MatchPrefix(sequence.pages, sequence.tokens, request.cache_salt) : 0;
  if (!kv_->Reserve(sequence.pages, found, sequence.num_tokens())) {
    sequence.pages.Clear();
    return false;
  }
  sequence.num_computed = sequence.num_indexed = found;
  if (looks_up) kv_->CountLookup(sequence.num_tokens(), found);
  if (sequence.num_output() == 0) {
    sequence.num_cached = found;
    if (looks_up) cached_share_.Add(found, sequence.prompt_length());
  }
  return true;
}

void Scheduler::PreemptLast() {
  std::unique_ptr<Sequence> sequence = std::move(running_.back());
  running_.pop_back();
  sequence->pages.Clear();
  sequence->num_computed = sequence->num_indexed = 0;
  ++sequence->num_preemptions;
  ++num_preemptions_;
  Enqueue(std::move(sequence));
}

void Scheduler::Commit(const Schedule& schedule) {
  for (const ScheduledChunk& chunk : schedule) {
    Sequence& sequence = *chunk.sequence;
    // It may have ended meanwhile, or lost its pages and started again.
    const int end = std::min(chunk.end(), sequence.num_computed);
    if (sequence.has_ended || end <= sequence.num_indexed) continue;
    const int begin = std::exchange(sequence.num_indexed, end);
    if (!sequence.request.bypass_prefix_cache) {
      kv_->IndexPrefix(sequence.pages, sequence.tokens, sequence.request.cache_salt, begin, end);
    }
    const int prompt_length = sequence.prompt_length();
    if (begin < prompt_length && end >= prompt_length) BeginSiblings(sequence);
  }
}

std::vector<std::pair<const Sequence*, bool>> Scheduler::First(int most) const {
  std::vector<std::pair<const Sequence*, bool>> first;
  for (const Queue* queue : {&running_, &waiting_, &siblings_}) {
    for (const auto& sequence : *queue) {
      if (std::ssize(first) == most) return first;
      first.emplace_back(sequence.get(), queue == &running_);
    }
  }
  return first;
}

LoadForecast Scheduler::MakeForecast(int max_context) const {
  const KvCacheStats kv = kv_->stats();
  LoadForecast forecast{.num_steps = num_steps_,
                        .steps_per_priority = limits_.steps_per_priority,
                        .max_num_seqs = limits_.max_num_seqs,
                        .max_batch_tokens = limits_.max_batch_tokens,
                        .prompt_budget = limits_.max_batch_tokens,
                        .max_context = max_context,
                        .layout = &kv_->layout(),
                        .num_available_pages = kv.free_pages + kv.cached_pages,
                        .output_share = output_share_.value(),
                        .cached_share = cached_share_.value()};
  forecast.work.reserve(running_.size() + waiting_.size());
  const auto output_left = [&](const Sequence& sequence) {
    const int expected = ExpectedOutput(sequence.request, forecast.output_share, max_context);
    return std::max(1, expected - sequence.num_output());
  };
  for (const auto& sequence : running_) {
    forecast.work.push_back(
        {.turn = sequence->turn,
         .priority = sequence->request.priority,
         .is_running = true,
         .prompt_tokens = sequence->is_decoding() ? 0 : sequence->num_to_compute(),
         .output_tokens = output_left(*sequence),
         .num_pages = sequence->pages.num_pages()});
  }
  for (const auto& sequence : waiting_) {
    Work work = ExpectedWork(forecast, sequence->request);
    work.turn = sequence->turn;
    work.prompt_tokens += sequence->num_output();
    work.output_tokens = output_left(*sequence);
    forecast.work.push_back(work);
  }
  for (const auto& sibling : siblings_) {
    forecast.work.push_back({.turn = sibling->turn,
                             .priority = sibling->request.priority,
                             .prompt_tokens = 1,
                             .output_tokens = output_left(*sibling),
                             .num_pages = kv_->layout().num_groups()});
  }
  return forecast;
}

}  // namespace mea
