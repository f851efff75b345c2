#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/time/time.h"
#include "engine/batch.h"
#include "engine/engine.h"
#include "engine/model/model.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"

namespace mea {

// The engine without its thread: one Step is one pass of the model over what the scheduler chose.
// Time comes in as an argument, so that every run can be repeated. The model and the cache outlive
// it.
class EngineCore {
 public:
  EngineCore(Model* model, KvCache* kv, int max_num_seqs, std::vector<int32_t> eos_token_ids);
  // Whatever is still in flight ends with CANCELLED.
  ~EngineCore();

  // What ValidateRequest checks requests against.
  RequestLimits request_limits() const;

  // The request has passed ValidateRequest and its id is not in flight.
  void Add(Request request, std::shared_ptr<TokenSink> sink);
  // Ends a request with `status`; false when no such request is in flight.
  bool Finish(std::string_view id, absl::Status status);
  void FinishAll(absl::Status status);

  // Chooses a step and starts it; on a device it runs on while the caller does something else, such
  // as Deliver. False when there is nothing to compute. Until Collect no request may come or go.
  bool Launch(absl::Time now);
  // Waits for the step launched last; what it did. Events wait for Deliver, so that whoever
  // publishes stats can do so before anybody hears of the step.
  StepReport Collect();
  StepReport Step(absl::Time now) { return Launch(now) ? Collect() : StepReport{}; }
  void Deliver();

  bool has_work() const { return !scheduler_.empty(); }
  // INTERNAL once the device has failed: every request has ended so, and none can succeed.
  const absl::Status& device_status() const { return device_status_; }
  // Ids whose OnFinish is waiting to be delivered.
  std::vector<std::string> finished_ids() const;
  EngineStats stats() const;

 private:
  void FinishExpired(absl::Time now);
  absl::Status ComputePromptLogprobs();
  // The draws of rows [first, first + one group), from their logits on.
  void StartDraws(size_t first);
  absl::Status FinishDraws();
  // What the device said is no longer to be believed: every request ends with `status`.
  StepReport Fail(absl::Status status);
  void AcceptToken(Sequence* sequence, absl::StatusOr<TokenEvent> event);
  void Retire(Sequence* sequence, FinishEvent finish);
  // Where to note what the sequence's sink is to hear.
  SequenceEvents& EventsOf(Sequence* sequence);
  std::vector<int32_t> StopTokens(const Sequence& sequence) const;

  Model* const model_;
  KvCache* const kv_;
  const std::vector<int32_t> eos_token_ids_;
  Scheduler scheduler_;
  Sampler sampler_;
  // The step in flight: from Launch to Collect.
  Schedule schedule_;
  Batch batch_;
  std::vector<Sequence*> drawing_;  // in the order of draw_rows_
  std::vector<int32_t> draw_rows_;  // of the batch
  bool draws_started_ = false;
  absl::Status device_status_;  // once it is not OK, nothing is computed any more
  std::unordered_map<std::string, Sequence*> in_flight_;
  std::vector<Sequence*> with_events_;              // in the order of their first event
  std::vector<std::unique_ptr<Sequence>> retired_;  // without pages; kept for their last events
  int64_t num_arrivals_ = 0;
  int64_t prompt_tokens_ = 0;
  int64_t generation_tokens_ = 0;
  int64_t num_steps_ = 0;
};

}  // namespace mea
