// An engine that is offered more than it can serve: how soon a refusal comes, and what becomes of
// those that are admitted. A small model with random weights on one thread of the CPU; requests of
// 64 prompt and 64 output tokens with a deadline, at random times.
//   overload_bench [TIMES_CAPACITY [SECONDS [DEADLINE_SECONDS]]]       default: 4 20 2
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <random>
#include <vector>

#include "absl/time/clock.h"
#include "engine/engine_loop.h"
#include "tests/support/engine_harness.h"

namespace mea::testing {
namespace {

constexpr RandomModelSpec kSpec{.hidden_size = 256,
                                .num_layers = 4,
                                .q_heads = 8,
                                .kv_heads = 8,
                                .key_heads = 4,
                                .value_heads = 4,
                                .head_dim = 32,
                                .ffn_size = 512,
                                .vocab_size = 1000};
constexpr int kMaxNumSeqs = 16;

std::unique_ptr<EngineLoop> MakeLoop() {
  EngineParts parts;
  parts.options.max_num_seqs = kMaxNumSeqs;
  parts.options.max_batch_tokens = 256;
  parts.backends.push_back(CreateCpuBackend({.num_threads = 1}).value());
  const ModelConfig config = MakeConfig(kSpec);
  parts.model = Model::Create(config, MakeWeights(kSpec, config), parts.backends[0].get(),
                              {.max_batch_tokens = 256, .max_logit_rows = kMaxNumSeqs})
                    .value();
  parts.kv =
      KvCache::Create(parts.model->backend(), parts.model->MakeKvLayout(DType::kF32, 16), 256)
          .value();
  return std::make_unique<EngineLoop>(std::move(parts));
}

Request MakeRequest(int id, absl::Time deadline) {
  Request request = RandomRequest(id, 64, 64, kSpec.vocab_size);
  request.stopping.ignore_eos = true;
  request.deadline = deadline;
  return request;
}

struct Counts {
  std::mutex mutex;
  int in_time = 0;
  int late = 0;
  int left = 0;
};

class CountingSink final : public TokenSink {
 public:
  explicit CountingSink(Counts& counts) : counts_(counts) {}
  void OnToken(TokenEvent) override {}
  void OnFinish(FinishEvent event) override {
    std::lock_guard lock(counts_.mutex);
    ++(event.status.ok() ? counts_.in_time : counts_.late);
    --counts_.left;
  }

 private:
  Counts& counts_;
};

void AwaitAll(Counts& counts) {
  for (;; absl::SleepFor(absl::Milliseconds(5))) {
    std::lock_guard lock(counts.mutex);
    if (counts.left == 0) return;
  }
}

// Requests per second of a full engine.
double MeasureCapacity(EngineLoop& loop) {
  constexpr int kNumRequests = 8 * kMaxNumSeqs;
  Counts counts{.left = kNumRequests};
  const absl::Time start = absl::Now();
  for (int i = 0; i < kNumRequests; ++i) {
    MEA_CHECK(
        loop.Submit(MakeRequest(i, absl::InfiniteFuture()), std::make_shared<CountingSink>(counts))
            .ok());
  }
  AwaitAll(counts);
  return kNumRequests / absl::ToDoubleSeconds(absl::Now() - start);
}

double Percentile(const std::vector<double>& sorted, double share) {
  return sorted.empty() ? 0 : sorted[static_cast<size_t>(share * (sorted.size() - 1))];
}

void Run(double times_capacity, double seconds, double deadline_s) {
  const std::unique_ptr<EngineLoop> loop = MakeLoop();
  const double capacity = MeasureCapacity(*loop);
  std::mt19937_64 random(1);
  std::exponential_distribution<double> gap(times_capacity * capacity);
  Counts counts;
  std::vector<double> refusals_ms, others_ms;
  const absl::Time begin = absl::Now();
  absl::Time next = begin;
  int offered = 0;
  for (; next < begin + absl::Seconds(seconds); ++offered) {
    next += absl::Seconds(gap(random));
    absl::SleepFor(next - absl::Now());
    {
      std::lock_guard lock(counts.mutex);
      ++counts.left;
    }
    const absl::Time before = absl::Now();
    const absl::Status status =
        loop->Submit(MakeRequest(1'000'000 + offered, before + absl::Seconds(deadline_s)),
                     std::make_shared<CountingSink>(counts));
    const double ms = absl::ToDoubleMilliseconds(absl::Now() - before);
    (status.ok() ? others_ms : refusals_ms).push_back(ms);
    std::lock_guard lock(counts.mutex);
    if (!status.ok()) --counts.left;
  }
  AwaitAll(counts);
  std::sort(refusals_ms.begin(), refusals_ms.end());
  std::sort(others_ms.begin(), others_ms.end());
  std::printf(
      "capacity %.1f requests/s; offered %.1f times that for %.0f s with a deadline of %.1f s\n",
      capacity, times_capacity, seconds, deadline_s);
  std::printf("offered %d, refused %zu, in time %d (%.2f of capacity), late %d\n", offered,
              refusals_ms.size(), counts.in_time, counts.in_time / (capacity * seconds),
              counts.late);
  std::printf(
      "Submit: a refusal %.3f ms (median), %.3f (p99), %.3f (max); an admission %.3f, %.3f, %.3f\n",
      Percentile(refusals_ms, 0.5), Percentile(refusals_ms, 0.99), Percentile(refusals_ms, 1),
      Percentile(others_ms, 0.5), Percentile(others_ms, 0.99), Percentile(others_ms, 1));
}

}  // namespace
}  // namespace mea::testing

int main(int argc, char** argv) {
  const auto argument = [&](int i, double unset) { return argc > i ? std::atof(argv[i]) : unset; };
  mea::testing::Run(argument(1, 4), argument(2, 20), argument(3, 2));
}
