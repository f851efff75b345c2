#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "engine/admission.h"
#include "engine/engine.h"
#include "engine/engine_core.h"
#include "engine/sequence_list.h"
#include "kernels/late_memory.h"

namespace mea {

// Everything an engine needs. Members are destroyed last to first.
struct EngineParts {
  EngineOptions options;
  GenerationDefaults generation;
  std::vector<std::unique_ptr<Backend>> backends;
  std::unique_ptr<Model> model;
  std::unique_ptr<KvCache> kv;
  std::unique_ptr<LateMemory> kv_memory;  // absent: the back end's
};

// An engine on its own thread. Others leave requests and cancellations in an inbox and read
// snapshots; only that thread touches the core. It sleeps on a condition variable while there is
// nothing to do.
class EngineLoop final : public Engine {
 public:
  explicit EngineLoop(EngineParts parts, StepObserver observer = nullptr);
  // Ends all requests in flight with UNAVAILABLE.
  ~EngineLoop() override;

  const ModelConfig& config() const override { return parts_.model->config(); }
  const GenerationDefaults& generation_defaults() const override { return parts_.generation; }
  const EngineOptions& options() const override { return parts_.options; }
  MemoryPlan memory_plan() const override;
  int max_context() const override { return limits_.max_context; }

  using Engine::Submit;
  absl::Status Submit(Request request, std::vector<std::shared_ptr<TokenSink>> sinks) override;
  bool Cancel(std::string_view id, std::optional<int> completion = std::nullopt) override;
  void Drain(absl::Time deadline) override;

  void ClearPrefixCache() override;
  void ObservePrefixCache(PrefixObserver observer) override;

  absl::Status health() const override;
  EngineStats stats() const override;
  std::vector<SequenceInfo> ListSequences() override;
  absl::Time last_heartbeat() const override;

 private:
  struct Arrival {
    Request request;
    std::vector<std::shared_ptr<TokenSink>> sinks;
  };
  // Identifies one arrival: an id may be reused once its request has ended.
  struct Cancellation {
    std::string id;
    int64_t arrival_number;
    std::optional<int> completion;  // absent: all
  };

  // How much must leave the queue before a request has room.
  struct Shortage {
    std::string message;
    int num_requests = 0;
    int64_t num_tokens = 0;
  };
  // mutex_ is held.
  std::optional<Shortage> FindShortage(const Request& request) const;

  void Run();
  // Waits for work, then moves the inbox into the core. False when it is time to stop.
  bool DrainInbox();
  // Publishes stats, then tells the sinks what has happened.
  void Announce();
  void TellPrefixObserver();
  void Beat();
  BackendCounters CountersSinceStart() const;  // engine thread only

  const EngineParts parts_;
  const StepObserver observer_;
  EngineCore core_;  // engine thread only
  const RequestLimits limits_;
  const BackendCounters counters_at_start_;
  std::atomic<int64_t> heartbeat_ns_;
  Admission admission_;  // locked after mutex_
  SequenceList sequence_list_;

  // The standard library's, as all of this room: the thread sanitizer does not see Abseil's, whose
  // waits with a timeout go by the wall clock besides.
  mutable std::mutex mutex_;
  std::condition_variable work_arrived_;   // for the engine thread
  std::condition_variable request_ended_;  // for Drain
  // Guarded by mutex_:
  std::vector<Arrival> inbox_;
  int64_t inbox_tokens_ = 0;  // of its prompts
  std::vector<Cancellation> cancelled_;
  std::unordered_map<std::string, int64_t> in_flight_;  // id -> number of its arrival
  int64_t num_arrivals_ = 0;
  EngineStats stats_;
  absl::Status health_;
  bool draining_ = false;
  bool end_all_ = false;
  bool stopping_ = false;
  bool clear_prefixes_ = false;
  bool watch_prefixes_ = false;  // there is a new observer, or none any more

  std::mutex observer_mutex_;       // held while the observer is called
  PrefixObserver prefix_observer_;  // guarded by it
  bool observer_is_new_ = false;    // likewise: what is recorded does not begin with its beginning

  std::thread thread_;  // last: it uses everything above
};

}  // namespace mea
