#include "engine/engine_loop.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/clock.h"
#include "engine/refusal.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

// How long an idle engine sleeps before it reports that it is alive.
constexpr std::chrono::milliseconds kIdleBeat{500};

}  // namespace

EngineLoop::EngineLoop(EngineParts parts, StepObserver observer)
    : parts_(std::move(parts)),
      observer_(std::move(observer)),
      core_(parts_.model.get(), parts_.kv.get(), parts_.options.max_num_seqs,
            parts_.generation.eos_token_ids, parts_.options.target_itl),
      limits_(core_.request_limits()),
      counters_at_start_(parts_.model->counters()),
      stats_(core_.stats()) {
  Beat();
  parts_.model->set_on_layer([this] { Beat(); });
  thread_ = std::thread([this] { Run(); });
}

EngineLoop::~EngineLoop() {
  {
    std::lock_guard lock(mutex_);
    draining_ = end_all_ = stopping_ = true;
  }
  work_arrived_.notify_one();
  thread_.join();
}

MemoryPlan EngineLoop::memory_plan() const {
  const Model& model = *parts_.model;
  const KvLayout& layout = parts_.kv->layout();
  const int64_t pages = parts_.kv->stats().num_pages;
  MemoryPlan plan{.weights_bytes = model.weights_bytes(),
                  .kv_cache_bytes = parts_.kv->allocated_bytes(),
                  .kv_cache_bytes_uncompressed = pages * layout.UncompressedPageBytes(),
                  .workspace_bytes = model.workspace_bytes(),
                  .max_sequences = pages / layout.PagesFor(max_context())};
  for (const BackendBytes& bytes : model.backend_bytes()) {
    plan.scratch_bytes += bytes.scratch;
    plan.graphs_bytes += bytes.graphs;
  }
  for (size_t i = 0; i < model.weights().stage_bytes.size(); ++i) {
    const Stage& stage = *model.stages()[i];
    plan.devices.push_back(
        {.gpu = i < parts_.options.gpus.size() ? parts_.options.gpus[i] : static_cast<int>(i),
         .num_layers = stage.layers().size(),
         .weights_bytes = model.weights().stage_bytes[i],
         .kv_cache_bytes = pages * layout.RankPageBytes(static_cast<int>(i)),
         .workspace_bytes = stage.workspace_bytes(),
         .scratch_bytes = model.backend_bytes()[i].scratch,
         .graphs_bytes = model.backend_bytes()[i].graphs});
  }
  return plan;
}

BackendCounters EngineLoop::CountersSinceStart() const {
  BackendCounters counters = parts_.model->counters();
  counters.graph_replays -= counters_at_start_.graph_replays;
  counters.eager_runs -= counters_at_start_.eager_runs;
  counters.graphs -= counters_at_start_.graphs;
  counters.allocations -= counters_at_start_.allocations;
  return counters;
}

absl::Status EngineLoop::Submit(Request request, std::vector<std::shared_ptr<TokenSink>> sinks) {
  MEA_RETURN_IF_ERROR(ValidateRequest(request, limits_));
  const int most = std::min(kMaxCompletions, parts_.options.max_num_seqs);
  if (sinks.empty() || std::ssize(sinks) > most) {
    return absl::InvalidArgumentError(absl::StrCat("n ", sinks.size(), " is outside 1..", most));
  }
  const absl::Status in_time = admission_.Check(request, Now());
  std::optional<Shortage> shortage;
  {
    std::lock_guard lock(mutex_);
    if (draining_) return absl::UnavailableError("the server is shutting down");
    if (!health_.ok()) {
      return absl::UnavailableError(
          absl::StrCat("the device has failed: ", std::string(health_.message())));
    }
    // An idle engine admits it anyway: if the forecast is wrong, only steps can correct it.
    if (!in_time.ok() && !in_flight_.empty()) return in_time;
    shortage = FindShortage(request);
    if (!shortage) {
      if (!in_flight_.try_emplace(request.id, num_arrivals_).second) {
        return absl::AlreadyExistsError(
            absl::StrCat("request_id \"", request.id, "\" is already in flight"));
      }
      ++num_arrivals_;
      inbox_tokens_ += std::ssize(request.prompt);
      admission_.Submitted(request, static_cast<int>(sinks.size()));
      inbox_.push_back({std::move(request), std::move(sinks)});
    }
  }
  if (shortage) {
    const absl::Duration delay =
        admission_.UntilRoom(shortage->num_requests, shortage->num_tokens, Now());
    return ResourceExhausted(shortage->message, "QUEUE_FULL", delay);
  }
  work_arrived_.notify_one();
  return absl::OkStatus();
}

std::optional<EngineLoop::Shortage> EngineLoop::FindShortage(const Request& request) const {
  const EngineOptions& options = parts_.options;
  const int waiting = stats_.num_waiting + static_cast<int>(inbox_.size());
  if (waiting >= options.max_queued_requests) {
    return Shortage{
        .message = absl::StrCat("the queue is full: ", waiting,
                                " requests are waiting, the most is ", options.max_queued_requests),
        .num_requests = 1};
  }
  // A prompt that exceeds the bound by itself is accepted if nothing else waits.
  const int64_t tokens = stats_.num_waiting_tokens + inbox_tokens_;
  const int64_t excess = tokens + std::ssize(request.prompt) - options.max_queued_tokens;
  if (waiting == 0 || excess <= 0) return std::nullopt;
  return Shortage{.message = absl::StrCat(
                      "the queue is full: ", tokens, " prompt tokens are waiting, with ",
                      request.prompt.size(), " more they exceed ", options.max_queued_tokens),
                  .num_tokens = excess};
}

bool EngineLoop::Cancel(std::string_view id, std::optional<int> completion) {
  {
    std::lock_guard lock(mutex_);
    const auto it = in_flight_.find(std::string(id));
    if (it == in_flight_.end()) return false;
    cancelled_.push_back({it->first, it->second, completion});
  }
  work_arrived_.notify_one();
  return true;
}

void EngineLoop::Drain(absl::Time deadline) {
  std::unique_lock lock(mutex_);
  draining_ = true;
  const auto all_ended = [this] { return in_flight_.empty(); };
  if (!request_ended_.wait_until(lock, ToSteadyTime(deadline), all_ended)) {
    end_all_ = true;
    work_arrived_.notify_one();
    request_ended_.wait(lock, all_ended);
  }
}

void EngineLoop::ClearPrefixCache() {
  {
    std::lock_guard lock(mutex_);
    clear_prefixes_ = true;
  }
  work_arrived_.notify_one();
}

void EngineLoop::ObservePrefixCache(PrefixObserver observer) {
  {
    std::lock_guard lock(observer_mutex_);
    prefix_observer_ = std::move(observer);
    observer_is_new_ = true;
  }
  {
    std::lock_guard lock(mutex_);
    watch_prefixes_ = true;
  }
  work_arrived_.notify_one();
}

absl::Status EngineLoop::health() const {
  std::lock_guard lock(mutex_);
  return health_;
}

EngineStats EngineLoop::stats() const {
  std::lock_guard lock(mutex_);
  EngineStats stats = stats_;
  stats.num_waiting += static_cast<int>(inbox_.size());
  stats.num_waiting_tokens += inbox_tokens_;
  return stats;
}

std::vector<SequenceInfo> EngineLoop::ListSequences() { return sequence_list_.Ask(Now()); }

absl::Time EngineLoop::last_heartbeat() const { return absl::FromUnixNanos(heartbeat_ns_.load()); }

void EngineLoop::Beat() { heartbeat_ns_.store(absl::ToUnixNanos(Now())); }

void EngineLoop::Run() {
  // A device computes while this thread reports the results of the previous step; on the host it is
  // faster to report first.
  const bool overlaps = parts_.model->backend().device() != Device::kCpu;
  absl::Time last_end = absl::InfinitePast();  // of a step
  while (DrainInbox()) {
    const absl::Time start = Now();
    const bool launched = core_.can_launch() && core_.Launch(start);
    if (overlaps) Announce();
    StepReport report;
    // If another step can be launched after the current one, launch it before waiting.
    if (core_.num_steps_in_flight() > 0 && !(launched && core_.can_launch())) {
      report = core_.Collect();
      const absl::Time end = Now();
      report.seconds = absl::ToDoubleSeconds(end - std::max(report.launched, last_end));
      last_end = end;
      core_.Observe(report);
    }
    if (!overlaps || !core_.has_work()) Announce();
    if (observer_ != nullptr && report.num_prefill_tokens + report.num_decode_tokens > 0) {
      observer_(report);
    }
  }
  Announce();
}

bool EngineLoop::DrainInbox() {
  std::vector<Arrival> arrivals;
  std::vector<Cancellation> cancelled;
  bool end_all = false;
  bool stopping = false;
  bool clear_prefixes = false;
  bool watch_prefixes = false;
  {
    std::unique_lock lock(mutex_);
    const auto has_news = [this] {
      return !inbox_.empty() || !cancelled_.empty() || end_all_ || stopping_ || clear_prefixes_ ||
             watch_prefixes_;
    };
    while (!core_.has_work() && !has_news()) {
      Beat();
      work_arrived_.wait_for(lock, kIdleBeat);
    }
    arrivals = std::exchange(inbox_, {});
    cancelled = std::exchange(cancelled_, {});
    std::erase_if(cancelled, [this](const Cancellation& c) {
      const auto it = in_flight_.find(c.id);
      return it == in_flight_.end() || it->second != c.arrival_number;
    });
    end_all = std::exchange(end_all_, false);
    stopping = stopping_;
    clear_prefixes = std::exchange(clear_prefixes_, false);
    watch_prefixes = std::exchange(watch_prefixes_, false);
    // Otherwise nothing would count them until the next snapshot.
    stats_.num_waiting += static_cast<int>(arrivals.size());
    stats_.num_waiting_tokens += std::exchange(inbox_tokens_, 0);
  }
  Beat();
  if (watch_prefixes) {
    std::lock_guard lock(observer_mutex_);
    observer_is_new_ = false;
    parts_.kv->RecordPrefixEvents(prefix_observer_ != nullptr);
  }
  if (clear_prefixes) parts_.kv->ClearPrefixCache();
  for (Arrival& arrival : arrivals) {
    core_.Add(std::move(arrival.request), std::move(arrival.sinks));
  }
  for (const Cancellation& c : cancelled) {
    core_.Finish(c.id, absl::CancelledError("the request was cancelled"), c.completion);
  }
  if (end_all) core_.FinishAll(absl::UnavailableError("the server is shutting down"));
  return !stopping;
}

void EngineLoop::Announce() {
  const absl::Time now = Now();
  std::optional<LoadForecast> forecast;
  admission_.Learn(core_.deadlines().met, core_.deadlines().missed);
  if (admission_.WantsForecast(now)) forecast = core_.MakeForecast();
  {
    std::lock_guard lock(mutex_);
    if (forecast) {
      int num_in_inbox = 0;
      for (const Arrival& arrival : inbox_) num_in_inbox += static_cast<int>(arrival.sinks.size());
      admission_.Publish(*std::move(forecast), num_in_inbox, now);
    }
    stats_ = core_.stats();
    stats_.device = CountersSinceStart();
    health_ = core_.device_status();
    for (const std::string& id : core_.finished_ids()) in_flight_.erase(id);
  }
  if (sequence_list_.IsWanted(!core_.has_work(), now)) {
    sequence_list_.Publish(core_.ListSequences(), now);
  }
  request_ended_.notify_all();
  core_.Deliver();
  TellPrefixObserver();
}

void EngineLoop::TellPrefixObserver() {
  std::vector<PrefixEvent> events = parts_.kv->TakePrefixEvents();
  if (events.empty()) return;
  std::lock_guard lock(observer_mutex_);
  if (prefix_observer_ != nullptr && !observer_is_new_) prefix_observer_(std::move(events));
}

}  // namespace mea
