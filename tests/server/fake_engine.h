#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "engine/engine.h"

namespace mea::testing {

// Token ids of the tokenizer in test_tokenizer.h: a byte's id is its value.
inline constexpr int32_t kEos = 256;
inline constexpr int32_t kLongToken = 257;  // 1,024 times "x"
inline constexpr int kVocabSize = 258;
inline constexpr int kLongTokenBytes = 1024;

struct FakeEngineOptions {
  int max_context = 1 << 20;
  int max_num_seqs = 4;
  int max_queued_requests = 8;
  bool automatic = true;  // steps by itself; otherwise the test calls Step
  GenerationDefaults defaults = {.eos_token_ids = {kEos}};
  // Called by max_context(), which whoever answers Tokenize asks: the test may hold it up there.
  std::function<void()> on_max_context = [] {};
};

// An engine without a model. Every request is answered, one token per step, with what the script
// says follows its prompt, then with an end of sequence. Keeps the contract of Engine.
class FakeEngine final : public Engine {
 public:
  using Script = std::function<std::vector<int32_t>(const Request&)>;

  explicit FakeEngine(FakeEngineOptions options = {});
  ~FakeEngine() override;

  void SetScript(Script script) ABSL_LOCKS_EXCLUDED(mu_);
  void SetAnswer(const std::string& text);  // the same for every prompt

  // One step: cancellations, deadlines, then a token for each running request.
  void Step() ABSL_LOCKS_EXCLUDED(step_mu_, mu_);
  void Step(int times) {
    for (int i = 0; i < times; ++i) Step();
  }
  // The next Submit is refused with `status`.
  void RefuseNext(absl::Status status) ABSL_LOCKS_EXCLUDED(mu_);
  // Every request in flight ends with `status` at the next step.
  void FailAll(absl::Status status) ABSL_LOCKS_EXCLUDED(mu_);
  // So it is for good: what health says from then on.
  void Break(absl::Status status) ABSL_LOCKS_EXCLUDED(mu_);
  // The last sign of life was now; until StartHeart there is no other.
  void StopHeart() ABSL_LOCKS_EXCLUDED(mu_);
  void StartHeart() ABSL_LOCKS_EXCLUDED(mu_);

  // Wait until it is so; false after ten seconds.
  [[nodiscard]] bool AwaitInFlight(int count) ABSL_LOCKS_EXCLUDED(mu_);
  [[nodiscard]] bool AwaitSubmitted(int count) ABSL_LOCKS_EXCLUDED(mu_);
  [[nodiscard]] bool AwaitCancels(int count) ABSL_LOCKS_EXCLUDED(mu_);

  // Of the last request that was submitted.
  Request last_request() const ABSL_LOCKS_EXCLUDED(mu_);
  int num_submitted() const ABSL_LOCKS_EXCLUDED(mu_);

  const ModelConfig& config() const override { return config_; }
  const GenerationDefaults& generation_defaults() const override { return options_.defaults; }
  const EngineOptions& options() const override { return engine_options_; }
  MemoryPlan memory_plan() const override;
  int max_context() const override {
    options_.on_max_context();
    return options_.max_context;
  }
  using Engine::Submit;
  absl::Status Submit(Request request, std::vector<std::shared_ptr<TokenSink>> sinks) override
      ABSL_LOCKS_EXCLUDED(mu_);
  bool Cancel(std::string_view id, std::optional<int> completion = std::nullopt) override
      ABSL_LOCKS_EXCLUDED(mu_);
  void Drain(absl::Time deadline) override ABSL_LOCKS_EXCLUDED(mu_);
  void ClearPrefixCache() override ABSL_LOCKS_EXCLUDED(observer_mu_);
  void ObservePrefixCache(PrefixObserver observer) override ABSL_LOCKS_EXCLUDED(observer_mu_);
  // Tells the observer, if there is one.
  void TellPrefixObserver(std::vector<PrefixEvent> events) ABSL_LOCKS_EXCLUDED(observer_mu_);
  EngineStats stats() const override ABSL_LOCKS_EXCLUDED(mu_);
  std::vector<SequenceInfo> ListSequences() override ABSL_LOCKS_EXCLUDED(mu_);
  absl::Time last_heartbeat() const override ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status health() const override ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Running {
    Request request;
    int completion = 0;
    std::shared_ptr<TokenSink> sink;
    std::vector<int32_t> answer;
    int num_drawn = 0;
    bool scheduled = false;
    absl::Status end;  // not OK: ends at the next step
  };
  using RunningPtr = std::shared_ptr<Running>;

  void Run();
  int PagesOf(const Running& running) const;
  FinishEvent Finish(const Running& running, absl::Status status, FinishReason reason) const;
  // Delivers the token that one step gives; the end, where that is it.
  std::optional<FinishEvent> Advance(Running& running);
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return stopping_ || !in_flight_.empty();
  }

  const FakeEngineOptions options_;
  ModelConfig config_;
  EngineOptions engine_options_;

  absl::Mutex step_mu_;  // one step at a time, as an engine has one thread
  mutable absl::Mutex mu_;
  Script script_ ABSL_GUARDED_BY(mu_);
  std::vector<RunningPtr> in_flight_ ABSL_GUARDED_BY(mu_);
  absl::Status refusal_ ABSL_GUARDED_BY(mu_);
  absl::Status health_ ABSL_GUARDED_BY(mu_);
  Request last_request_ ABSL_GUARDED_BY(mu_);
  int num_submitted_ ABSL_GUARDED_BY(mu_) = 0;
  int num_cancels_ ABSL_GUARDED_BY(mu_) = 0;
  EngineStats totals_ ABSL_GUARDED_BY(mu_);
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  absl::Mutex observer_mu_;
  PrefixObserver prefix_observer_ ABSL_GUARDED_BY(observer_mu_);
  std::optional<absl::Time> heart_stopped_ ABSL_GUARDED_BY(mu_);
  std::thread thread_;
};

}  // namespace mea::testing
