// What the engine's loop refuses at the door, and with which words.
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/clock.h"
#include "engine/refusal.h"
#include "tests/engine/loop_harness.h"

namespace mea::testing {
namespace {

TEST(EngineLoopRefusalTest, AFullQueueRefusesWithItsNumbers) {
  EngineOptions options;
  options.max_num_seqs = 1;
  options.max_queued_requests = 2;
  auto loop = MakeLoop(options);
  auto running = std::make_shared<WaitableSink>();
  ASSERT_TRUE(loop->Submit(RandomRequest(0, 5, 4000, kVocab), running).ok());
  running->WaitForToken();
  std::vector<std::shared_ptr<WaitableSink>> queued;
  for (int i = 1; i <= 2; ++i) {
    queued.push_back(std::make_shared<WaitableSink>());
    ASSERT_TRUE(loop->Submit(RandomRequest(i, 5, 4000, kVocab), queued.back()).ok());
  }
  const absl::Status refused =
      loop->Submit(RandomRequest(3, 5, 4000, kVocab), std::make_shared<WaitableSink>());
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(refused.message(), "the queue is full: 2 requests are waiting, the most is 2");
  EXPECT_EQ(RefusalReason(refused), "QUEUE_FULL");
  EXPECT_GT(RetryDelay(refused), absl::ZeroDuration());
  loop.reset();
  EXPECT_EQ(running->Wait().status.code(), absl::StatusCode::kUnavailable);
  for (const auto& sink : queued)
    EXPECT_EQ(sink->Wait().status.code(), absl::StatusCode::kUnavailable);
}

TEST(EngineLoopRefusalTest, TheQueueIsBoundedByTheTokensOfItsPromptsToo) {
  EngineOptions options;
  options.max_num_seqs = 1;
  options.max_queued_tokens = 100;
  auto loop = MakeLoop(options);
  auto running = std::make_shared<WaitableSink>();
  ASSERT_TRUE(loop->Submit(RandomRequest(0, 5, 4000, kVocab), running).ok());
  running->WaitForToken();
  const auto submit = [&](int id, int prompt_length) {
    return loop->Submit(RandomRequest(id, prompt_length, 4, kVocab),
                        std::make_shared<WaitableSink>());
  };
  EXPECT_TRUE(submit(1, 200).ok()) << "alone, a prompt may exceed the bound";
  const absl::Status refused = submit(2, 1);
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(refused.message(),
            "the queue is full: 200 prompt tokens are waiting, with 1 more they exceed 100");
  EXPECT_EQ(loop->stats().num_waiting_tokens, 200);
  EXPECT_TRUE(loop->Cancel("request-1"));
  while (loop->stats().num_waiting > 0) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_TRUE(submit(3, 60).ok());
  EXPECT_TRUE(submit(4, 40).ok());
  EXPECT_FALSE(submit(5, 1).ok());
}

TEST(EngineLoopRefusalTest, WhatCannotEndInTimeIsRefusedAtTheDoor) {
  EngineOptions options;
  options.max_num_seqs = 1;
  auto loop = MakeLoop(options, 512);
  auto running = std::make_shared<WaitableSink>();
  Request long_one = RandomRequest(0, 5, 4000, kVocab);
  long_one.stopping.ignore_eos = true;
  ASSERT_TRUE(loop->Submit(long_one, running).ok());
  Request hasty = RandomRequest(1, 5, 4000, kVocab);
  hasty.stopping.ignore_eos = true;
  // The first to ask are admitted: nothing is known yet. They are told when their time is over.
  absl::Status refused;
  for (int i = 1; refused.ok(); ++i) {
    ASSERT_LT(i, 1000);
    hasty.id = absl::StrCat("hasty-", i);
    hasty.deadline = Now() + absl::Milliseconds(20);
    auto sink = std::make_shared<WaitableSink>();
    refused = loop->Submit(hasty, sink);
    if (refused.ok()) {
      EXPECT_EQ(sink->Wait().status.code(), absl::StatusCode::kDeadlineExceeded);
    }
  }
  EXPECT_EQ(RefusalReason(refused), "DEADLINE_UNREACHABLE") << refused;
  EXPECT_TRUE(RetryDelay(refused).has_value());
  hasty.deadline = absl::InfiniteFuture();
  EXPECT_TRUE(loop->Submit(hasty, std::make_shared<WaitableSink>()).ok());
}

TEST(EngineLoopRefusalTest, AnIdleEngineTriesWhatItsForecastRulesOut) {
  std::atomic<bool> is_slow = true;
  auto loop = MakeLoop({}, 256, [&] {
    if (is_slow) absl::SleepFor(absl::Milliseconds(20));
  });
  const auto run = [&](int id, int max_tokens, absl::Duration time) {
    Request request = RandomRequest(id, 5, max_tokens, kVocab);
    request.stopping.ignore_eos = true;
    request.deadline = Now() + time;
    auto sink = std::make_shared<WaitableSink>();
    const absl::Status submitted = loop->Submit(request, sink);
    return submitted.ok() ? sink->Wait().status : submitted;
  };
  // Steps of 20 ms are what it comes to know; then the machine has time again.
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(run(i, 10, absl::Hours(1)).ok());
  is_slow = false;
  EXPECT_TRUE(run(9, 30, absl::Milliseconds(400)).ok());
}

TEST(EngineLoopRefusalTest, WhatCanNeverFitIsRefusedAtTheDoor) {
  auto loop = MakeLoop({}, 2);  // 32 tokens of cache
  EXPECT_EQ(loop->max_context(), 32);
  const absl::Status status =
      loop->Submit(RandomRequest(1, 32, 1, kVocab), std::make_shared<WaitableSink>());
  EXPECT_EQ(status.message(), "prompt of 32 tokens leaves no room in the context of 32 tokens");
}

}  // namespace
}  // namespace mea::testing
