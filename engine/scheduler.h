#pragma once

#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/load_forecast.h"
#include "engine/sequence.h"
#include "engine/step_budget.h"
#include "kvcache/kv_cache.h"

namespace mea {

struct SchedulerLimits {
  int max_num_seqs = 64;         // sequences in one step
  int max_batch_tokens = 512;    // tokens in one step
  int steps_per_priority = 256;  // of waiting that one level of priority is worth
};

// One sequence's share of a step: its tokens [begin, begin + num_tokens).
struct ScheduledChunk {
  Sequence* sequence = nullptr;
  int begin = 0;
  int num_tokens = 0;
  bool draws = false;      // it reaches the end of the sequence: its last row predicts a new token
  bool is_decode = false;  // it is one drawn token
  int end() const { return begin + num_tokens; }
};

// What one step computes, highest priority first. Valid until the scheduler changes.
using Schedule = std::vector<ScheduledChunk>;

// The share of something that was used lately: an observation 64 back counts 1/e of the newest.
class RecentShare {
 public:
  void Add(double part, double whole) {
    part_ = kDecay * part_ + part;
    whole_ = kDecay * whole_ + whole;
  }
  double value() const { return whole_ > 0 ? part_ / whole_ : 0; }

 private:
  static constexpr double kDecay = 1.0 - 1.0 / 64;
  double part_ = 0;
  double whole_ = 0;
};

// Decides which tokens the next step computes. Continuous batching: sequences join and leave
// between steps; decoding sequences go first, and prompts fill the rest of the token budget in
// chunks. When pages run out, the sequence whose turn comes last gives up its pages and is
// recomputed later. Has no clock, no device and no I/O: the same calls give the same schedules.
// Owns the sequences. Engine thread only.
//
// A sequence's turn is the step of its arrival, minus steps_per_priority for each level of its
// priority. The earlier turn goes first, and among equals the earlier arrival. So waiting requests
// age, all at the same rate, and the order of two never changes: a sequence that gave way to
// another stays behind it until that one has ended, and only requests that arrive within
// (difference of priorities) * steps_per_priority steps can overtake. Therefore finitely many go
// before any sequence, the very first makes progress in every step, and nobody starves.
class Scheduler {
 public:
  using Queue = std::vector<std::unique_ptr<Sequence>>;

  Scheduler(SchedulerLimits limits, KvCache* kv) : limits_(limits), kv_(kv) {}

  // The caller has checked that the sequence alone fits into the cache, and that it and its
  // siblings are at most max_num_seqs. Siblings are other completions of the same prompt: they
  // begin as forks of the first when it has computed the prompt.
  void Add(std::unique_ptr<Sequence> sequence, Queue siblings = {});
  // Removes a sequence, wherever it is, together with its pages; null if it is not there.
  std::unique_ptr<Sequence> Remove(const Sequence* sequence);

  // What the next step could compute, unless somebody has to give way.
  StepLoad load() const;
  // Computes at most `prompt_budget` tokens of prompts, at least 1. From here on the tokens of the
  // schedule count as computed: whatever uses their keys and values runs after the step. Empty only
  // if all there is to do is wait for sequences whose end is in flight. `memory` is an earlier
  // schedule whose memory is reused.
  Schedule Next(int prompt_budget = kUnlimitedPromptTokens, Schedule memory = {});
  // The step of `schedule` has run and its tokens are known: prompts with the same beginning may
  // share them.
  void Commit(const Schedule& schedule);

  // All work, with what is known of its future. The caller fills in the times, and the budget if
  // steps have a smaller one than max_batch_tokens.
  LoadForecast MakeForecast(int max_context) const;

  // Up to `most` sequences and whether they run, in the order of their turns: those that do first,
  // siblings that wait for one of them last.
  std::vector<std::pair<const Sequence*, bool>> First(int most) const;

  int num_running() const { return static_cast<int>(running_.size()); }
  int num_waiting() const { return static_cast<int>(waiting_.size()); }
  int64_t num_waiting_tokens() const { return num_waiting_tokens_; }  // of their prompts
  int64_t num_preemptions() const { return num_preemptions_; }
  bool empty() const { return running_.empty() && waiting_.empty() && siblings_.empty(); }

 private:
  void ScheduleDecodes(Schedule& schedule);
  void SchedulePrompts(Schedule& schedule, int budget);
  // Admits waiting prompts as long as one of them would get a share of `budget`.
  void AdmitWaiting(int budget);
  bool WouldGetShare(const Sequence& waiting, int budget) const;
  // Prompts in progress, in the order of their turns: whatever has work once the decodes have their
  // places.
  std::vector<Sequence*> Prompts() const;
  static void Append(Schedule& schedule, Sequence& sequence, int num_tokens);
  // Allocates the sequence's tables for its greatest length, so that decoding allocates nothing.
  void ReserveTables(Sequence& sequence) const;
  // All pages that a waiting sequence needs, or none.
  bool TakePages(Sequence& sequence);
  // Makes room for the next step of all running sequences, if need be by preempting those whose
  // turn comes last; returns whether nobody had to give way.
  bool ReserveOrPreempt();
  void PreemptLast();
  void Enqueue(std::unique_ptr<Sequence> sequence);
  std::unique_ptr<Sequence> Dequeue(const Sequence* sequence);
  void LearnFrom(const Sequence& ended);
  // Places in a step that are taken: running sequences, and siblings that wait for one of them.
  int NumPlacesTaken() const;
  int NumSiblings(const Sequence& first) const;
  // The prompt of `first` is computed: its siblings begin, or queue if there is no page.
  void BeginSiblings(const Sequence& first);
  void Fork(const Sequence& first, std::unique_ptr<Sequence> sibling);
  // `first` has left before its prompt was computed: the next sibling takes its place.
  void ReplaceFirst(const Sequence& first);

  const SchedulerLimits limits_;
  KvCache* const kv_;
  // Both in the order of their turns.
  Queue waiting_;
  Queue running_;
  Queue siblings_;  // that wait for the first of their prompt, in the order of their arrivals
  int64_t num_waiting_tokens_ = 0;
  int64_t num_steps_ = 0;
  int64_t num_preemptions_ = 0;
  RecentShare output_share_;  // drawn, of what was allowed
  RecentShare cached_share_;  // found in the prefix cache, of prompts
};

}  // namespace mea
