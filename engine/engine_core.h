#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/model/model.h"
#include "engine/outbox.h"
#include "engine/scheduler.h"
#include "engine/step.h"

namespace mea {

// The engine without its thread: one Step is one pass of the model over the rows that the scheduler
// chose. Time is an argument, so every run can be repeated. The model and the cache must outlive
// it.
class EngineCore {
 public:
  EngineCore(Model* model, KvCache* kv, int max_num_seqs, std::vector<int32_t> eos_token_ids,
             std::optional<absl::Duration> target_itl = absl::InfiniteDuration());
  // Whatever is still in flight ends with CANCELLED.
  ~EngineCore();

  // What ValidateRequest checks requests against.
  RequestLimits request_limits() const;

  // The request has passed ValidateRequest and its id is not in flight. One completion per sink.
  void Add(Request request, std::vector<std::shared_ptr<TokenSink>> sinks);
  void Add(Request request, std::shared_ptr<TokenSink> sink) {
    Add(std::move(request), std::vector<std::shared_ptr<TokenSink>>{std::move(sink)});
  }
  // Ends all completions of a request, or one of them, with `status`; false when no such is in
  // flight.
  bool Finish(std::string_view id, absl::Status status,
              std::optional<int> completion = std::nullopt);
  void FinishAll(absl::Status status);

  // Chooses a step and starts it. On a device it keeps running while the caller does something
  // else, such as Deliver. False if there is nothing to compute before a step has been collected.
  bool Launch(absl::Time now);
  // Whether Launch may be called: no step is in flight, or a single one that needs nothing more
  // from the host, so a device can continue with the next without a pause.
  bool can_launch() const;
  int num_steps_in_flight() const { return num_steps_in_flight_; }
  // Waits for the oldest step in flight and reports what it did. Events wait for Deliver, so the
  // caller can publish stats before any client hears of the step.
  StepReport Collect();
  // One step, from its launch to its end.
  StepReport RunStep(absl::Time now) { return Launch(now) ? Collect() : StepReport{}; }
  // How long a step took, for the budgets of later ones and for forecasts.
  void Observe(const StepReport& report) { budget_.Observe(report); }
  void Deliver() { outbox_.Deliver(); }

  bool has_work() const { return !scheduler_.empty() || num_steps_in_flight_ > 0; }
  // INTERNAL once the device has failed: every request has ended with it, and none can succeed.
  const absl::Status& device_status() const { return device_status_; }
  // Ids whose last OnFinish is waiting to be delivered.
  std::vector<std::string> finished_ids() const;
  // Completions with a deadline that have ended: before it, and because of it.
  struct Deadlines {
    int64_t met = 0;
    int64_t missed = 0;
  };
  const Deadlines& deadlines() const { return deadlines_; }
  EngineStats stats() const;
  LoadForecast MakeForecast() const;
  // See Engine::ListSequences.
  std::vector<SequenceInfo> ListSequences() const;

 private:
  void FinishExpired(absl::Time now);
  void PrepareDraws(Step& step);
  // Finds which tokens may come next in a sequence with a grammar; false: none, and the sequence
  // has ended.
  bool FillMask(Sequence& sequence, Sampler::Mask mask);
  absl::Status ComputePromptLogprobs(Step& step);
  // The draws [first, first + one group), from their logits on.
  void StartDraws(Step& step, size_t first);
  // Waits until the results of all draws are there.
  absl::Status FinishDraws(Step& step);
  // End with INTERNAL what is not finite: requests with such a prompt, sequences that cannot draw.
  void EndDamagedPrompts(const Step& step);
  void EndDamagedDraws(const Step& step);
  void AcceptTokens(const Step& step);
  // The device's results can no longer be trusted: every request ends with `status`.
  StepReport Fail(absl::Status status);
  void AcceptToken(const Draw& draw, TokenEvent event);
  void Retire(Sequence* sequence, FinishEvent finish);
  // Whether the sequence ends at this many tokens.
  bool HasAllTokens(const Sequence& sequence, int num_tokens) const;
  bool IsStopToken(const Sequence& sequence, int32_t token) const;
  std::vector<int32_t> StopTokens(const Sequence& sequence) const;

  Model* const model_;
  KvCache* const kv_;
  const std::vector<int32_t> eos_token_ids_;
  Scheduler scheduler_;
  StepBudget budget_;
  // The steps in flight are num_steps_in_flight_ entries of a ring, starting at oldest_.
  std::array<Step, 2> steps_;
  int oldest_ = 0;
  int num_steps_in_flight_ = 0;
  absl::Status device_status_;  // once it is not OK, nothing is computed any more
  std::unordered_map<std::string, std::vector<Sequence*>> in_flight_;  // completions by request
  Outbox outbox_;
  int64_t num_arrivals_ = 0;
  Deadlines deadlines_;
  int64_t prompt_tokens_ = 0;
  int64_t generation_tokens_ = 0;
  int64_t num_steps_ = 0;
};

}  // namespace mea
