// What prompts and decoding sequences have in common when they share a step.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "tests/engine/outcome.h"
#include "tests/support/engine_harness.h"

namespace mea::testing {
namespace {

// The number of products, and the most rows of one.
class ProductCounter final : public OpObserver {
 public:
  void OnOp(const OpCall& call, absl::FunctionRef<void()> run) override {
    if (const auto* product = call.As<MatMulArgs>()) {
      ++num_products;
      max_rows = std::max<int64_t>(max_rows, product->x.shape[0]);
    }
    run();
  }
  int num_products = 0;
  int64_t max_rows = 0;
};

// What a step computes is one batch of rows, whosever they are.
TEST(SharedStepsTest, AllPromptsOfAStepAreInOneProduct) {
  const RandomModelSpec spec;
  EngineHarness harness(spec, {.max_batch_tokens = 256});
  auto observer = std::make_unique<ProductCounter>();
  ProductCounter& counter = *observer;
  harness.model().backend().set_observer(std::move(observer));
  harness.Add(RandomRequest(1, 60, 2, spec.vocab_size));
  harness.Step();
  EXPECT_EQ(counter.max_rows, 60);
  const int products_of_one = std::exchange(counter.num_products, 0);
  for (int i = 0; i < 7; ++i) harness.Add(RandomRequest(2 + i, 20 + i, 2, spec.vocab_size));
  harness.Step();
  EXPECT_EQ(counter.max_rows, 1 + 7 * 20 + 21) << "seven prompts and a decoding sequence";
  EXPECT_EQ(counter.num_products, products_of_one);
}

// However long steps are said to take, and so however prompts are cut.
TEST(SharedStepsTest, BudgetsDoNotChangeWhatIsDrawn) {
  const RandomModelSpec spec{.head_norm = true};
  std::vector<Request> requests;
  for (int i = 0; i < 12; ++i) {
    requests.push_back(RandomRequest(i, 10 + 37 * i, 30, spec.vocab_size));
  }
  EngineHarness alone(spec, {.max_batch_tokens = 512});
  std::vector<Outcome> expected;
  for (const Request& request : requests) expected.push_back(OutcomeOf(*alone.Run({request})[0]));

  for (const std::optional<absl::Duration> target :
       {std::optional<absl::Duration>(), {absl::Milliseconds(30)}}) {
    EngineHarness harness(spec, {.max_batch_tokens = 512, .target_itl = target});
    // More than the 32 steps before which nothing is believed.
    (void)harness.Run({RandomRequest(99, 5, 50, spec.vocab_size)});
    std::vector<std::shared_ptr<RecordingSink>> sinks;
    std::mt19937_64 random(1);
    std::set<int> budgets;
    for (int step = 0; step < 50 || harness.core().has_work(); ++step) {
      if (step % 4 == 0 && sinks.size() < requests.size()) {
        sinks.push_back(harness.Add(requests[sinks.size()]));
      }
      StepReport report = harness.core().RunStep(absl::UnixEpoch());
      budgets.insert(report.prompt_budget);
      report.seconds = 1e-3 * (1 + random() % 10) +
                       1e-4 * (report.num_prefill_tokens + report.num_decode_tokens);
      harness.core().Observe(report);
      harness.core().Deliver();
    }
    EXPECT_GT(budgets.size(), 5u);
    for (size_t i = 0; i < requests.size(); ++i) EXPECT_EQ(OutcomeOf(*sinks[i]), expected[i]) << i;
  }
}

// One of many steps has a single prompt token, to learn the time of decodes alone. A forecast is
// about all of them.
TEST(SharedStepsTest, AForecastExpectsTheUsualBudget) {
  const RandomModelSpec spec;
  EngineHarness harness(spec, {.max_batch_tokens = 512, .target_itl = absl::Milliseconds(1)});
  harness.Add(RandomRequest(1, 5, 80, spec.vocab_size));
  std::set<int> budgets;
  for (int step = 0; step < 60; ++step) {
    harness.Add(RandomRequest(2 + step, 60, 1, spec.vocab_size));
    StepReport report = harness.core().RunStep(absl::UnixEpoch());
    report.seconds = 0.1;
    harness.core().Observe(report);
    harness.core().Deliver();
    if (step > 0) budgets.insert(report.prompt_budget);
    EXPECT_EQ(harness.core().MakeForecast().prompt_budget, StepBudget::kLeastPromptTokens) << step;
  }
  EXPECT_THAT(budgets, ::testing::ElementsAre(1, StepBudget::kLeastPromptTokens));
}

}  // namespace
}  // namespace mea::testing
