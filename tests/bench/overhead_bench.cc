// What the engine itself costs per step - schedule, batch, parameters of the draws, accepting and
// telling the tokens - with a model that computes nothing, and how often it asks for memory.
//   overhead_bench [CONTEXT [STEPS]]       default: 1000 tokens of each sequence, 300 steps
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "engine/bench/timing.h"
#include "kernels/backend.h"
#include "tests/support/allocation_counter.h"
#include "tests/support/engine_harness.h"

namespace mea::testing {
namespace {

// Leaves out what computes: every draw is token 7.
class NullOps final : public OpObserver {
  void OnOp(const OpCall& call, absl::FunctionRef<void()> run) override {
    if (call.As<CopyArgs>() != nullptr) return run();
    const auto* draw = call.As<SampleArgs>();
    if (draw == nullptr) return;
    for (SampledToken& token : draw->tokens) token.token_id = 7;
  }
};

class NullSink final : public TokenSink {
  void OnToken(TokenEvent) override {}
  void OnFinish(FinishEvent) override {}
};

void Run(int num_sequences, int context, int num_steps) {
  constexpr int kPageSize = 16;
  constexpr int kWarmUp = 20;
  const auto backend = CreateCpuBackend({.num_threads = 1}).value();
  backend->set_observer(std::make_unique<NullOps>());
  const int length = context + num_steps + 2 * kWarmUp;
  EngineHarness harness({.num_layers = 1, .vocab_size = 32000, .max_position = length + 1},
                        {.device = backend.get(),
                         .page_size = kPageSize,
                         .num_pages = num_sequences * (length / kPageSize + 1),
                         .max_batch_tokens = num_sequences * context,  // all prompts at once
                         .max_num_seqs = num_sequences,
                         .max_logit_rows = num_sequences,
                         .eos_token_ids = {2},
                         .prefix_cache = true});
  EngineCore& core = harness.core();
  for (int i = 0; i < num_sequences; ++i) {
    Request request = RandomRequest(i, context, length - context, 32000);
    request.logprobs.reset();
    request.sampling.temperature = 0.8f;
    request.sampling.top_p = 0.95f;
    core.Add(std::move(request), std::make_shared<NullSink>());
  }
  const auto step = [&] {
    const StepReport report = core.RunStep(absl::UnixEpoch());
    core.Deliver();
    return report.num_decode_tokens == num_sequences;
  };
  while (!step()) continue;
  for (int i = 0; i < kWarmUp; ++i) step();
  const int64_t allocations = NumAllocations();
  std::vector<double> seconds;
  seconds.reserve(num_steps);
  for (int i = 0; i < num_steps; ++i) {
    seconds.push_back(SecondsOf([&] { MEA_CHECK(step()); }));
  }
  const Spread spread = SpreadOf(std::move(seconds));
  std::printf(
      "%4d sequences of %d tokens: %7.1f us per step (median; %.1f to %.1f), %.2f us and "
      "%.2f allocations per sequence\n",
      num_sequences, context, 1e6 * spread.median, 1e6 * spread.min, 1e6 * spread.max,
      1e6 * spread.median / num_sequences,
      static_cast<double>(NumAllocations() - allocations) / num_steps / num_sequences);
}

}  // namespace
}  // namespace mea::testing

int main(int argc, char** argv) {
  const auto argument = [&](int i, int unset) { return argc > i ? std::atoi(argv[i]) : unset; };
  for (const int sequences : {1, 64, 256}) {
    mea::testing::Run(sequences, argument(1, 1000), argument(2, 300));
  }
}
