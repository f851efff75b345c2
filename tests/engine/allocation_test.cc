// A binary of its own: it counts every request for memory of the whole program.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

#include "tests/support/engine_harness.h"

namespace {

std::atomic<int64_t> num_allocations{0};

void* Allocate(size_t size, size_t alignment) {
  ++num_allocations;
  const size_t padded = (size + alignment - 1) / alignment * alignment;
  if (void* memory = std::aligned_alloc(alignment, padded)) return memory;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(size_t size) { return Allocate(size, alignof(std::max_align_t)); }
void* operator new(size_t size, std::align_val_t alignment) {
  return Allocate(size, static_cast<size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }

namespace mea::testing {
namespace {

class DeafSink final : public TokenSink {
  void OnToken(TokenEvent) override {}
  void OnFinish(FinishEvent) override {}
};

struct Case {
  const char* name;
  RandomModelSpec model;
  DType kv_dtype = DType::kBf16;
};

class AllocationTest : public ::testing::TestWithParam<Case> {};

// Schedule, batch, forward pass, draws, pages that fill and are indexed, events: once all sequences
// decode and every buffer has had its size once, nothing asks for memory.
TEST_P(AllocationTest, DecodeStepsAskForNone) {
  constexpr int kNumSequences = 9;
  constexpr int kPrompt = 40;
  constexpr int kWarmUp = 20;
  constexpr int kSteps = 60;  // three pages of every sequence
  EngineHarness harness(GetParam().model, {.num_threads = 2,
                                           .page_size = 16,
                                           .num_pages = 128,
                                           .max_batch_tokens = 128,
                                           .kv_dtype = GetParam().kv_dtype,
                                           .prefix_cache = true});
  EngineCore& core = harness.core();
  for (int i = 0; i < kNumSequences; ++i) {
    Request request =
        RandomRequest(i, kPrompt + i, 2 * (kWarmUp + kSteps), GetParam().model.vocab_size);
    if (i % 2 == 0) request.logprobs.reset();
    request.sampling.temperature = 0.8f;
    request.sampling.top_p = 0.95f;
    core.Add(std::move(request), std::make_shared<DeafSink>());
  }
  const auto step = [&] {
    const StepReport report = core.RunStep(absl::UnixEpoch());
    core.Deliver();
    return report.num_decode_tokens;
  };
  while (step() < kNumSequences) continue;
  for (int i = 0; i < kWarmUp; ++i) step();
  const int64_t before = num_allocations;
  for (int i = 0; i < kSteps; ++i) ASSERT_EQ(step(), kNumSequences);
  EXPECT_EQ(num_allocations - before, 0);
}

INSTANTIATE_TEST_SUITE_P(Models, AllocationTest,
                         ::testing::Values(Case{"Mea", {.qk_norm = true, .dtype = DType::kBf16}},
                                           Case{"Int8Cache", {.dtype = DType::kBf16}, DType::kI8},
                                           Case{"Windows", {.window = 24, .global_layer = 0}},
                                           Case{"Experts", {.num_experts = 4}},
                                           Case{"Pseudo", {.pseudo_heads = 2}}),
                         [](const auto& shape) { return shape.param.name; });

}  // namespace
}  // namespace mea::testing
