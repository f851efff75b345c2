#include "tests/server/fake_engine.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/clock.h"
#include "engine/refusal.h"

namespace mea::testing {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(10);
constexpr int kPageSize = 16;
constexpr int kNumPages = 100;
constexpr int kBytesPerToken = 64;
constexpr int kUncompressedBytesPerToken = 128;

}  // namespace

FakeEngine::FakeEngine(FakeEngineOptions options) : options_(std::move(options)) {
  config_.model_type = "mea";
  config_.composition = "mea";
  config_.base_model_type = "llama";
  config_.hidden_size = 32;
  config_.num_layers = 2;
  config_.q_heads = 4;
  config_.kv_heads = 4;
  config_.head_dim = 8;
  config_.ffn_size = 64;
  config_.vocab_size = kVocabSize;
  config_.max_position = options_.max_context;
  config_.layer_heads.assign(
      2, {.key_heads = 2, .value_heads = 2, .key_mix = true, .value_mix = true});
  config_.eos_token_ids = {kEos};
  engine_options_ = {.model_dir = "fake",
                     .num_threads = 1,
                     .weight_dtype = "f32",
                     .page_size = kPageSize,
                     .kv_cache_bytes = kNumPages * kPageSize * kBytesPerToken,
                     .max_context = options_.max_context,
                     .max_num_seqs = options_.max_num_seqs,
                     .max_queued_requests = options_.max_queued_requests};
  SetAnswer("hello");
  if (options_.automatic) thread_ = std::thread([this] { Run(); });
}

FakeEngine::~FakeEngine() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
  }
  if (thread_.joinable()) thread_.join();
}

void FakeEngine::SetScript(Script script) {
  absl::MutexLock lock(&mu_);
  script_ = std::move(script);
}

void FakeEngine::SetAnswer(const std::string& text) {
  std::vector<int32_t> ids;
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  SetScript([ids](const Request&) { return ids; });
}

void FakeEngine::RefuseNext(absl::Status status) {
  absl::MutexLock lock(&mu_);
  refusal_ = std::move(status);
}

void FakeEngine::FailAll(absl::Status status) {
  absl::MutexLock lock(&mu_);
  for (const RunningPtr& running : in_flight_) running->end = status;
}

void FakeEngine::Break(absl::Status status) {
  FailAll(status);
  absl::MutexLock lock(&mu_);
  health_ = std::move(status);
}

absl::Status FakeEngine::health() const {
  absl::MutexLock lock(&mu_);
  return health_;
}

void FakeEngine::StopHeart() {
  absl::MutexLock lock(&mu_);
  heart_stopped_ = Now();
}

void FakeEngine::StartHeart() {
  absl::MutexLock lock(&mu_);
  heart_stopped_.reset();
}

bool FakeEngine::AwaitInFlight(int count) {
  const auto reached = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return std::ssize(in_flight_) == count;
  };
  absl::MutexLock lock(&mu_);
  return mu_.AwaitWithTimeout(absl::Condition(&reached), kPatience);
}

bool FakeEngine::AwaitSubmitted(int count) {
  const auto reached = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return num_submitted_ >= count; };
  absl::MutexLock lock(&mu_);
  return mu_.AwaitWithTimeout(absl::Condition(&reached), kPatience);
}

bool FakeEngine::AwaitCancels(int count) {
  const auto reached = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return num_cancels_ >= count; };
  absl::MutexLock lock(&mu_);
  return mu_.AwaitWithTimeout(absl::Condition(&reached), kPatience);
}

Request FakeEngine::last_request() const {
  absl::MutexLock lock(&mu_);
  return last_request_;
}

int FakeEngine::num_submitted() const {
  absl::MutexLock lock(&mu_);
  return num_submitted_;
}

MemoryPlan FakeEngine::memory_plan() const {
  return {.weights_bytes = 1000,
          .kv_cache_bytes = kNumPages * kPageSize * kBytesPerToken,
          .kv_cache_bytes_uncompressed = kNumPages * kPageSize * kUncompressedBytesPerToken,
          .workspace_bytes = 500,
          .scratch_bytes = 300,
          .max_sequences = kNumPages * kPageSize / max_context(),
          .graphs_bytes = 100};
}

absl::Status FakeEngine::Submit(Request request, std::vector<std::shared_ptr<TokenSink>> sinks) {
  absl::MutexLock lock(&mu_);
  if (!refusal_.ok()) return std::exchange(refusal_, absl::OkStatus());
  if (draining_) return absl::UnavailableError("draining");
  if (std::ssize(in_flight_) >= options_.max_num_seqs + options_.max_queued_requests) {
    return ResourceExhausted(
        absl::StrCat("the queue of ", options_.max_queued_requests, " requests is full"),
        "QUEUE_FULL", absl::Seconds(1));
  }
  for (const RunningPtr& running : in_flight_) {
    if (running->request.id == request.id) return absl::AlreadyExistsError("in flight");
  }
  last_request_ = request;
  ++num_submitted_;
  for (size_t i = 0; i < sinks.size(); ++i) {
    auto running = std::make_shared<Running>();
    running->request = request;
    running->request.sampling.seed += i;
    running->request.prompt_logprobs = request.prompt_logprobs && i == 0;
    running->answer = script_(running->request);
    running->completion = static_cast<int>(i);
    running->sink = std::move(sinks[i]);
    in_flight_.push_back(std::move(running));
  }
  return absl::OkStatus();
}

bool FakeEngine::Cancel(std::string_view id, std::optional<int> completion) {
  absl::MutexLock lock(&mu_);
  bool found = false;
  for (const RunningPtr& running : in_flight_) {
    if (running->request.id != id ||
        running->completion != completion.value_or(running->completion)) {
      continue;
    }
    running->end = absl::CancelledError("cancelled");
    found = true;
  }
  if (found) ++num_cancels_;
  return found;
}

void FakeEngine::Drain(absl::Time deadline) {
  const auto none_left = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return in_flight_.empty(); };
  {
    absl::MutexLock lock(&mu_);
    draining_ = true;
    if (mu_.AwaitWithDeadline(absl::Condition(&none_left), deadline)) return;
  }
  FailAll(absl::UnavailableError("the server is shutting down"));
  Step();
}

EngineStats FakeEngine::stats() const {
  absl::MutexLock lock(&mu_);
  EngineStats stats = totals_;
  stats.device = {
      .graph_replays = 11, .eager_runs = 12, .graphs = 13, .allocations = 14, .graph_bytes = 70};
  stats.num_running = std::min<int>(in_flight_.size(), options_.max_num_seqs);
  stats.num_waiting = static_cast<int>(in_flight_.size()) - stats.num_running;
  KvCacheStats& kv = stats.kv;
  for (int i = 0; i < stats.num_running; ++i) kv.used_pages += PagesOf(*in_flight_[i]);
  kv.page_size = kPageSize;
  kv.num_pages = kNumPages;
  kv.max_tokens = kNumPages * kPageSize;
  kv.free_pages = kNumPages - kv.used_pages;
  kv.total_bytes = kNumPages * kPageSize * kBytesPerToken;
  kv.used_bytes = kv.used_pages * kPageSize * kBytesPerToken;
  kv.used_bytes_uncompressed = kv.used_pages * kPageSize * kUncompressedBytesPerToken;
  kv.bytes_per_token = kBytesPerToken;
  kv.bytes_per_token_uncompressed = kUncompressedBytesPerToken;
  return stats;
}

std::vector<SequenceInfo> FakeEngine::ListSequences() {
  absl::MutexLock lock(&mu_);
  std::vector<SequenceInfo> list;
  for (const RunningPtr& running : in_flight_) {
    if (std::ssize(list) == kMaxListedSequences) break;
    const bool is_running = std::ssize(list) < options_.max_num_seqs;
    const int64_t tokens = is_running ? int64_t{PagesOf(*running)} * kPageSize : 0;
    list.push_back({.request_id = running->request.id,
                    .completion = running->completion,
                    .is_running = is_running,
                    .prompt_tokens = static_cast<int>(running->request.prompt.size()),
                    .output_tokens = running->num_drawn,
                    .kv_bytes = tokens * kBytesPerToken,
                    .kv_bytes_uncompressed = tokens * kUncompressedBytesPerToken});
  }
  return list;
}

absl::Time FakeEngine::last_heartbeat() const {
  absl::MutexLock lock(&mu_);
  return heart_stopped_.value_or(Now());
}

void FakeEngine::Run() {
  for (;;) {
    {
      absl::MutexLock lock(&mu_);
      mu_.Await(absl::Condition(this, &FakeEngine::HasWork));
      if (stopping_) return;
    }
    Step();
  }
}

void FakeEngine::Step() {
  absl::MutexLock step_lock(&step_mu_);
  std::vector<RunningPtr> batch;
  {
    absl::MutexLock lock(&mu_);
    ++totals_.num_steps;
    for (const RunningPtr& running : in_flight_) {
      if (running->end.ok() && Now() >= running->request.deadline) {
        running->end = absl::DeadlineExceededError("the deadline passed");
      }
      const bool computed = std::ssize(batch) < options_.max_num_seqs;
      if (computed || !running->end.ok()) batch.push_back(running);
    }
  }
  for (const RunningPtr& running : batch) {
    absl::Status end;
    {
      absl::MutexLock lock(&mu_);
      end = running->end;
    }
    const std::optional<FinishEvent> finish =
        end.ok() ? Advance(*running) : Finish(*running, end, FinishReason::kCancelled);
    if (!finish) continue;
    {
      absl::MutexLock lock(&mu_);
      std::erase(in_flight_, running);
    }
    running->sink->OnFinish(*finish);
  }
}

std::optional<FinishEvent> FakeEngine::Advance(Running& running) {
  const Request& request = running.request;
  if (!std::exchange(running.scheduled, true)) {
    running.sink->OnScheduled(Now());
    if (request.prompt_logprobs) {
      PromptLogprob position{.logprob = -0.5f};
      for (int i = 0; i < request.logprobs.value_or(0); ++i) position.top.push_back({i, -1.0f - i});
      running.sink->OnPromptLogprobs({request.prompt.size() - 1, position});
    }
  }
  const std::vector<int32_t>& stops = request.stopping.stop_token_ids;
  const int drawn = running.num_drawn;
  TokenEvent event{.token_id = drawn < std::ssize(running.answer) ? running.answer[drawn] : kEos};
  const bool eos = event.token_id == kEos && !request.stopping.ignore_eos;
  event.is_stop = eos || std::find(stops.begin(), stops.end(), event.token_id) != stops.end();
  if (request.logprobs) {
    event.logprob = -0.25f;
    for (int i = 0; i < *request.logprobs; ++i) event.top_logprobs.push_back({i, -1.0f - i});
  }
  {
    absl::MutexLock lock(&mu_);
    ++running.num_drawn;
    ++totals_.generation_tokens;
    if (drawn == 0) totals_.prompt_tokens += std::ssize(request.prompt);
  }
  const bool is_stop = event.is_stop;
  const int32_t id = event.token_id;
  running.sink->OnToken(std::move(event));
  if (is_stop) {
    FinishEvent finish = Finish(running, absl::OkStatus(), FinishReason::kStop);
    finish.stop_token_id = id;
    return finish;
  }
  if (running.num_drawn < request.stopping.max_tokens) return std::nullopt;
  return Finish(running, absl::OkStatus(), FinishReason::kLength);
}

void FakeEngine::ClearPrefixCache() { TellPrefixObserver({{.kind = PrefixEvent::Kind::kCleared}}); }

void FakeEngine::ObservePrefixCache(PrefixObserver observer) {
  {
    absl::MutexLock lock(&observer_mu_);
    prefix_observer_ = std::move(observer);
  }
  TellPrefixObserver({{.kind = PrefixEvent::Kind::kCleared}});
}

void FakeEngine::TellPrefixObserver(std::vector<PrefixEvent> events) {
  absl::MutexLock lock(&observer_mu_);
  if (prefix_observer_ != nullptr) prefix_observer_(std::move(events));
}

int FakeEngine::PagesOf(const Running& running) const {
  const int tokens = static_cast<int>(running.request.prompt.size()) + running.num_drawn;
  return (tokens + kPageSize - 1) / kPageSize;
}

FinishEvent FakeEngine::Finish(const Running& running, absl::Status status,
                               FinishReason reason) const {
  const int64_t tokens = int64_t{PagesOf(running)} * kPageSize;
  return {.status = std::move(status),
          .reason = reason,
          .usage = {.prompt_tokens = static_cast<int>(running.request.prompt.size()),
                    .completion_tokens = running.num_drawn,
                    .kv_bytes = tokens * kBytesPerToken,
                    .kv_bytes_uncompressed = tokens * kUncompressedBytesPerToken}};
}

}  // namespace mea::testing
