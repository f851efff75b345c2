#include "engine/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "tests/engine/scheduler_harness.h"

namespace mea::testing {
namespace {

using ::testing::ElementsAre;

using Computed = std::pair<std::string, int>;  // request id, tokens

class SchedulerTest : public ::testing::Test {
 protected:
  void Create(int num_pages, SchedulerLimits limits) { harness_.emplace(num_pages, limits); }

  // Goes on until it is removed.
  Sequence* Add(int prompt_length, int priority = 0) {
    Request request{.id = std::to_string(num_arrivals_++),
                    .prompt = std::vector<int32_t>(prompt_length, 1)};
    request.stopping.max_tokens = 1 << 20;
    request.priority = priority;
    return harness_->Add(std::move(request));
  }
  void Remove(Sequence* sequence) { harness_->Remove(sequence); }

  // One step: what it computed, in the order of the schedule.
  std::vector<Computed> Step(int prompt_budget = kUnlimitedPromptTokens) {
    const Schedule schedule = scheduler().Next(prompt_budget);
    std::vector<Computed> seen;
    for (const ScheduledChunk& chunk : schedule) {
      seen.emplace_back(chunk.sequence->request.id, chunk.num_tokens);
    }
    harness_->Run(schedule);
    return seen;
  }

  Scheduler& scheduler() { return harness_->scheduler(); }
  KvCache& kv() { return harness_->kv(); }

 private:
  std::optional<SchedulerHarness> harness_;
  int num_arrivals_ = 0;
};

TEST_F(SchedulerTest, NothingToDoIsAnEmptySchedule) {
  Create(4, {});
  EXPECT_TRUE(scheduler().Next().empty());
}

TEST_F(SchedulerTest, LongPromptsAreSplitByTheTokenBudget) {
  Create(16, {.max_num_seqs = 4, .max_batch_tokens = 20});
  Add(50);
  EXPECT_THAT(Step(), ElementsAre(Computed{"0", 20}));
  EXPECT_THAT(Step(), ElementsAre(Computed{"0", 20}));
  EXPECT_THAT(Step(), ElementsAre(Computed{"0", 10}));
  EXPECT_THAT(Step(), ElementsAre(Computed{"0", 1}));
}

TEST_F(SchedulerTest, DecodingGoesFirstAndPromptsFillTheRest) {
  Create(16, {.max_num_seqs = 4, .max_batch_tokens = 20});
  Add(5);
  EXPECT_THAT(Step(), ElementsAre(Computed{"0", 5}));
  Add(30);
  EXPECT_THAT(Step(), ElementsAre(Computed{"0", 1}, Computed{"1", 19}));
  EXPECT_THAT(Step(), ElementsAre(Computed{"0", 1}, Computed{"1", 11}));
  EXPECT_THAT(Step(), ElementsAre(Computed{"0", 1}, Computed{"1", 1}));
}

TEST_F(SchedulerTest, PromptsGetNoMoreThanTheirBudget) {
  Create(16, {.max_num_seqs = 4, .max_batch_tokens = 20});
  Add(5);
  EXPECT_THAT(Step(3), ElementsAre(Computed{"0", 3}));
  EXPECT_THAT(Step(3), ElementsAre(Computed{"0", 2}));
  Add(6);
  EXPECT_THAT(Step(4), ElementsAre(Computed{"0", 1}, Computed{"1", 4}));
  EXPECT_THAT(Step(4), ElementsAre(Computed{"0", 1}, Computed{"1", 2}));
  EXPECT_THAT(Step(4), ElementsAre(Computed{"0", 1}, Computed{"1", 1}));
}

TEST_F(SchedulerTest, TheLoadIsWhatDecodesAndWhatCouldBegin) {
  Create(16, {.max_num_seqs = 4, .max_batch_tokens = 20});
  EXPECT_EQ(scheduler().load(), (StepLoad{0, 0}));
  Add(5);
  EXPECT_EQ(scheduler().load(), (StepLoad{0, 1}));
  Step();
  Add(30);
  EXPECT_EQ(scheduler().load(), (StepLoad{1, 1}));
  Step();
  EXPECT_EQ(scheduler().load(), (StepLoad{1, 1})) << "half of it is computed";
  for (int i = 0; i < 5; ++i) Add(30);
  EXPECT_EQ(scheduler().load(), (StepLoad{1, 3})) << "there is no place for more";
}

TEST_F(SchedulerTest, SequencesJoinAndLeaveBetweenSteps) {
  Create(16, {.max_num_seqs = 2, .max_batch_tokens = 100});
  Sequence* first = Add(3);
  Add(4);
  Add(5);
  EXPECT_THAT(Step(), ElementsAre(Computed{"0", 3}, Computed{"1", 4}));
  EXPECT_EQ(scheduler().num_waiting(), 1);
  Remove(first);
  EXPECT_THAT(Step(), ElementsAre(Computed{"1", 1}, Computed{"2", 5}));
}

TEST_F(SchedulerTest, HigherPriorityGoesFirst) {
  Create(16, {.max_num_seqs = 1, .max_batch_tokens = 100});
  Add(3, 0);
  Add(4, 5);
  EXPECT_THAT(Step(), ElementsAre(Computed{"1", 4}));
}

TEST_F(SchedulerTest, ALevelOfPriorityIsWorthItsStepsOfWaiting) {
  Create(16, {.max_num_seqs = 1, .max_batch_tokens = 100, .steps_per_priority = 3});
  Sequence* first = Add(3);
  Sequence* aged = Add(3, 0);
  Step();
  Step();
  Sequence* overtakes = Add(3, 1);  // two steps later, and one level is worth three
  Step();
  Sequence* too_late = Add(3, 1);
  for (Sequence* next : {first, overtakes, aged, too_late}) {
    EXPECT_EQ(Step()[0].first, next->request.id);
    Remove(next);
  }
}

TEST_F(SchedulerTest, PromptsWaitUntilAllTheirPagesAreFree) {
  Create(3, {.max_num_seqs = 4, .max_batch_tokens = 100});
  Sequence* first = Add(17);  // two pages
  Add(20);                    // two pages; one is left
  EXPECT_THAT(Step(), ElementsAre(Computed{"0", 17}));
  EXPECT_EQ(kv().num_free_pages(), 1);
  Remove(first);
  EXPECT_THAT(Step(), ElementsAre(Computed{"1", 20}));
}

TEST_F(SchedulerTest, TheNewestGivesWayWhenPagesRunOut) {
  Create(2, {.max_num_seqs = 4, .max_batch_tokens = 100});
  Add(16);
  Add(16);
  EXPECT_THAT(Step(), ElementsAre(Computed{"0", 16}, Computed{"1", 16}));
  // Both need a second page; the newer one gives up its first.
  EXPECT_THAT(Step(), ElementsAre(Computed{"0", 1}));
  EXPECT_EQ(scheduler().num_preemptions(), 1);
  EXPECT_EQ(scheduler().num_waiting(), 1);
}

TEST_F(SchedulerTest, TheLowestPriorityGivesWayEvenWhenItIsOlder) {
  Create(2, {.max_num_seqs = 4, .max_batch_tokens = 100});
  Add(16, 0);
  Add(16, 1);
  Step();
  EXPECT_THAT(Step(), ElementsAre(Computed{"1", 1}));
}

TEST_F(SchedulerTest, WhoGaveWayComesBackOnlyWhenAnotherHasEnded) {
  Create(2, {.max_num_seqs = 4, .max_batch_tokens = 100, .steps_per_priority = 1});
  Add(16, 0);
  Sequence* first = Add(16, 1);
  Step();
  // However long it has waited since: the other has waited as long.
  for (int step = 0; step < 10; ++step) EXPECT_THAT(Step(), ElementsAre(Computed{"1", 1}));
  EXPECT_EQ(scheduler().num_preemptions(), 1);
  Remove(first);
  EXPECT_THAT(Step(), ElementsAre(Computed{"0", 17}));
}

TEST_F(SchedulerTest, WaitingTokensAreThoseOfThePromptsThatWait) {
  Create(3, {.max_num_seqs = 1, .max_batch_tokens = 100});
  Add(10);
  Sequence* second = Add(20);
  EXPECT_EQ(scheduler().num_waiting_tokens(), 30);
  Step();
  EXPECT_EQ(scheduler().num_waiting_tokens(), 20);
  Remove(second);
  EXPECT_EQ(scheduler().num_waiting_tokens(), 0);
}

TEST_F(SchedulerTest, APreemptedSequenceIsComputedAnewWithWhatItHadDrawn) {
  Create(2, {.max_num_seqs = 4, .max_batch_tokens = 100});
  Sequence* first = Add(16);
  Add(16);
  Step();
  Step();
  Remove(first);
  EXPECT_THAT(Step(), ElementsAre(Computed{"1", 17}));
}

}  // namespace
}  // namespace mea::testing
