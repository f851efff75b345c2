#include "engine/engine_loop.h"

#include <gtest/gtest.h>

#include <functional>
#include <future>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "absl/time/clock.h"
#include "engine/clock.h"
#include "tests/engine/loop_harness.h"
#include "tests/support/op_observers.h"

namespace mea::testing {
namespace {

TEST(EngineLoopTest, RequestsFromManyThreadsEndOnceEach) {
  auto loop = MakeLoop();
  std::vector<std::shared_ptr<WaitableSink>> sinks(32);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = t; i < 32; i += 4) {
        sinks[i] = std::make_shared<WaitableSink>();
        EXPECT_TRUE(loop->Submit(RandomRequest(i, 5 + i, 8, kVocab), sinks[i]).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& sink : sinks) {
    EXPECT_TRUE(sink->Wait().status.ok());
    EXPECT_EQ(sink->tokens().size(), 8u);
  }
  EXPECT_EQ(loop->stats().kv.used_pages, 0);
  EXPECT_EQ(loop->stats().generation_tokens, 32 * 8);
}

// What an observer of the prefix cache was told, awaited by count.
class ToldEvents {
 public:
  PrefixObserver observer() {
    return [this](std::vector<PrefixEvent> events) {
      std::lock_guard lock(mutex_);
      for (PrefixEvent& event : events) events_.push_back(std::move(event));
      changed_.notify_all();
    };
  }
  std::vector<PrefixEvent> Await(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return events_.size() >= count; });
    return events_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<PrefixEvent> events_;
};

TEST(EngineLoopTest, AnObserverIsToldOfThePrefixCacheAndOfItsEnd) {
  auto loop = MakeLoop({.prefix_cache = true});
  using Kind = PrefixEvent::Kind;
  ToldEvents told;
  loop->ObservePrefixCache(told.observer());
  ASSERT_EQ(told.Await(1)[0].kind, Kind::kCleared);  // though the engine is idle
  const auto sink = std::make_shared<WaitableSink>();
  const Request request = RandomRequest(1, 40, 1, kVocab);
  ASSERT_TRUE(loop->Submit(request, sink).ok());
  const std::vector<PrefixEvent> stored = told.Await(3);  // two full pages of 16
  EXPECT_EQ(stored[1].tokens, std::vector(request.prompt.begin(), request.prompt.begin() + 16));
  EXPECT_EQ(stored[2].before, stored[1].entry);
  sink->Wait();
  loop->ClearPrefixCache();
  EXPECT_EQ(told.Await(4)[3].kind, Kind::kCleared);
  EXPECT_EQ(loop->stats().kv.cached_pages, 0);
  loop->ObservePrefixCache(nullptr);
  const auto second = std::make_shared<WaitableSink>();
  ASSERT_TRUE(loop->Submit(request, second).ok());
  second->Wait();
  EXPECT_EQ(told.Await(4).size(), 4u);
}

TEST(EngineLoopTest, AnIdIsInUseUntilItsRequestEnds) {
  auto loop = MakeLoop();
  const Request request = RandomRequest(1, 5, 3000, kVocab);
  auto first = std::make_shared<WaitableSink>();
  ASSERT_TRUE(loop->Submit(request, first).ok());
  const absl::Status again = loop->Submit(request, std::make_shared<WaitableSink>());
  EXPECT_EQ(again.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(again.message(), "request_id \"request-1\" is already in flight");
  first->WaitForToken();
  EXPECT_TRUE(loop->Cancel(request.id));
  EXPECT_EQ(first->Wait().status.code(), absl::StatusCode::kCancelled);
  EXPECT_FALSE(loop->Cancel(request.id));
  auto second = std::make_shared<WaitableSink>();
  EXPECT_TRUE(loop->Submit(RandomRequest(1, 5, 2, kVocab), second).ok());
  EXPECT_TRUE(second->Wait().status.ok());
}

TEST(EngineLoopTest, TheListOfSequencesFollowsThemToTheirEnd) {
  auto loop = MakeLoop();
  EXPECT_TRUE(loop->ListSequences().empty());
  const Request request = RandomRequest(1, 5, 4000, kVocab);
  auto sink = std::make_shared<WaitableSink>();
  ASSERT_TRUE(loop->Submit(request, sink).ok());
  std::vector<SequenceInfo> list;
  for (int i = 0; i < 4000 && list.empty(); ++i) {
    absl::SleepFor(absl::Milliseconds(5));
    list = loop->ListSequences();
  }
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0].request_id, request.id);
  EXPECT_GT(list[0].kv_bytes, 0);
  EXPECT_TRUE(loop->Cancel(request.id));
  sink->Wait();
  EXPECT_TRUE(loop->ListSequences().empty());
}

// Calls `then` when its request has ended, on the engine thread.
class ThenSink final : public TokenSink {
 public:
  explicit ThenSink(std::function<void(const FinishEvent&)> then) : then_(std::move(then)) {}
  void OnToken(TokenEvent) override {}
  void OnFinish(FinishEvent event) override { then_(event); }

 private:
  const std::function<void(const FinishEvent&)> then_;
};

TEST(EngineLoopTest, ACancelThatComesTooLateSparesTheNextRequestOfItsId) {
  std::unique_ptr<EngineLoop> loop;
  bool cancelled = false;
  // The step that the first request ends in has begun: too late to stop it.
  loop = MakeLoop({}, 256, [&] {
    if (std::exchange(cancelled, true)) return;
    EXPECT_TRUE(loop->Cancel("request-1"));
  });
  auto second = std::make_shared<WaitableSink>();
  // Between that step and the next the id is free, and the cancel still lies in the inbox.
  const auto reuse = [&](const FinishEvent& first) {
    EXPECT_TRUE(first.status.ok()) << first.status;
    EXPECT_TRUE(loop->Submit(RandomRequest(1, 5, 2, kVocab), second).ok());
  };
  ASSERT_TRUE(loop->Submit(RandomRequest(1, 5, 1, kVocab), std::make_shared<ThenSink>(reuse)).ok());
  EXPECT_TRUE(second->Wait().status.ok()) << second->Wait().status;
  EXPECT_EQ(second->tokens().size(), 2u);
}

TEST(EngineLoopTest, SubmitDoesNotWaitForAStep) {
  std::mutex step;
  auto loop = MakeLoop({}, 256, [&] { std::lock_guard wait(step); });
  std::vector<std::shared_ptr<WaitableSink>> sinks;
  {
    std::lock_guard hold(step);  // the first step cannot end before the last Submit has returned
    for (int i = 0; i < 20; ++i) {
      sinks.push_back(std::make_shared<WaitableSink>());
      Request request = RandomRequest(i, 5, 2, kVocab);
      request.deadline = Now() + absl::Hours(1);
      ASSERT_TRUE(loop->Submit(request, sinks.back()).ok());
    }
  }
  for (const auto& sink : sinks) EXPECT_TRUE(sink->Wait().status.ok());
}

TEST(EngineLoopTest, ARequestIsInFlightUntilItsLastCompletionEnds) {
  EngineOptions options;
  options.max_num_seqs = 4;
  auto loop = MakeLoop(options);
  Request request = RandomRequest(1, 5, 3000, kVocab);
  std::vector<std::shared_ptr<WaitableSink>> sinks;
  for (int i = 0; i < 5; ++i) sinks.push_back(std::make_shared<WaitableSink>());
  EXPECT_EQ(loop->Submit(request, {sinks.begin(), sinks.end()}).message(), "n 5 is outside 1..4");
  sinks.pop_back();
  ASSERT_TRUE(loop->Submit(request, {sinks.begin(), sinks.end()}).ok());
  for (const auto& sink : sinks) sink->WaitForToken();
  EXPECT_TRUE(loop->Cancel(request.id, 0));
  EXPECT_EQ(sinks[0]->Wait().status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(loop->Submit(request, sinks[0]).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(loop->Cancel(request.id));
  for (const auto& sink : sinks) {
    EXPECT_EQ(sink->Wait().status.code(), absl::StatusCode::kCancelled);
  }
  EXPECT_FALSE(loop->Cancel(request.id));
  EXPECT_EQ(loop->stats().kv.used_pages, 0);
}

TEST(EngineLoopTest, DrainFinishesWhatRunsAndRefusesWhatComes) {
  auto loop = MakeLoop();
  auto running = std::make_shared<WaitableSink>();
  ASSERT_TRUE(loop->Submit(RandomRequest(1, 5, 50, kVocab), running).ok());
  loop->Drain(absl::InfiniteFuture());
  EXPECT_TRUE(running->Wait().status.ok());
  EXPECT_EQ(running->tokens().size(), 50u);
  const absl::Status late =
      loop->Submit(RandomRequest(2, 5, 5, kVocab), std::make_shared<WaitableSink>());
  EXPECT_EQ(late.code(), absl::StatusCode::kUnavailable);
}

TEST(EngineLoopTest, DrainEndsWhatIsLeftAtItsDeadline) {
  auto loop = MakeLoop();
  auto running = std::make_shared<WaitableSink>();
  ASSERT_TRUE(loop->Submit(RandomRequest(1, 5, 4000, kVocab), running).ok());
  running->WaitForToken();
  loop->Drain(Now());
  EXPECT_EQ(running->Wait().status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(loop->stats().kv.used_pages, 0);
}

TEST(EngineLoopTest, TheHeartGoesOnBeatingWhileIdle) {
  auto loop = MakeLoop();
  const absl::Time first = loop->last_heartbeat();
  for (int i = 0; i < 100 && loop->last_heartbeat() == first; ++i) {
    absl::SleepFor(absl::Milliseconds(50));
  }
  EXPECT_GT(loop->last_heartbeat(), first);
}

TEST(EngineLoopTest, TheHeartBeatsAfterEachLayerOfALongStep) {
  std::mutex mutex;
  EngineLoop* seen_by_hook = nullptr;
  std::vector<absl::Time> beats;
  auto loop = MakeLoopOn(ObservedCpu(std::make_unique<AfterEachNorm>([&] {
    std::lock_guard lock(mutex);
    if (seen_by_hook == nullptr) return;
    beats.push_back(seen_by_hook->last_heartbeat());
    absl::SleepFor(absl::Milliseconds(2));
  })));
  {
    std::lock_guard lock(mutex);
    seen_by_hook = loop.get();
  }
  auto sink = std::make_shared<WaitableSink>();
  ASSERT_TRUE(loop->Submit(RandomRequest(1, 20, 1, kVocab), sink).ok());  // one step
  EXPECT_TRUE(sink->Wait().status.ok());
  std::lock_guard lock(mutex);
  ASSERT_EQ(beats.size(), 4u);  // two layers of two norms
  EXPECT_EQ(beats[0], beats[1]);
  EXPECT_GT(beats[2], beats[1]);
  EXPECT_EQ(beats[2], beats[3]);
  seen_by_hook = nullptr;
}

// The most prompt tokens beside a decoding sequence: of a prompt that arrives in the third step,
// and of one that arrives when enough steps were measured.
std::pair<int, int> MostBesideDecodes(std::optional<absl::Duration> target_itl) {
  EngineLoop* loop = nullptr;
  int num_forwards = 0;
  const auto late = std::make_shared<WaitableSink>();
  const auto submit = [&](int id, std::shared_ptr<TokenSink> sink) {
    ASSERT_TRUE(loop->Submit(RandomRequest(id, 200, 2, kVocab), std::move(sink)).ok());
  };
  std::pair<int, int> most{0, 0};
  std::promise<void> made;
  auto before_forward = [&, is_made = made.get_future().share()] {
    is_made.wait();
    if (++num_forwards == 3) submit(2, std::make_shared<WaitableSink>());
    if (num_forwards == 60) submit(3, late);
  };
  const auto observe = [&](const StepReport& step) {
    if (step.num_decode_tokens == 0) return;
    int& tokens = num_forwards < 60 ? most.first : most.second;
    tokens = std::max(tokens, step.num_prefill_tokens);
  };
  auto owner = MakeLoopOn(ObservedCpu(std::make_unique<BeforeForward>(before_forward)),
                          {.target_itl = target_itl}, 256, observe);
  loop = owner.get();
  const Request decoding = RandomRequest(1, 5, 3000, kVocab);
  const auto sink = std::make_shared<WaitableSink>();
  EXPECT_TRUE(loop->Submit(decoding, sink).ok());
  made.set_value();
  EXPECT_TRUE(late->Wait().status.ok());
  loop->Cancel(decoding.id);
  sink->Wait();
  owner.reset();
  return most;
}

TEST(EngineLoopTest, PromptsBesideDecodesGetWhatTheTargetLeaves) {
  EXPECT_EQ(MostBesideDecodes(absl::InfiniteDuration()), std::pair(63, 63));
  EXPECT_EQ(MostBesideDecodes(absl::Seconds(60)), std::pair(24, 63)) << "then times are known";
  EXPECT_EQ(MostBesideDecodes(absl::Nanoseconds(1)), std::pair(24, 24));
}

TEST(EngineLoopTest, AFailedDeviceEndsEveryRequestAndTakesNoMore) {
  std::promise<void> fails;
  auto loop = MakeLoopOn(ObservedCpu(std::make_unique<FailingDevice>(fails.get_future())));
  std::vector<std::shared_ptr<WaitableSink>> sinks;
  for (int i = 0; i < 3; ++i) {
    sinks.push_back(std::make_shared<WaitableSink>());
    ASSERT_TRUE(loop->Submit(RandomRequest(i, 70, 1000, kVocab), sinks.back()).ok());
  }
  fails.set_value();
  for (const auto& sink : sinks) {
    EXPECT_EQ(sink->Wait().status.code(), absl::StatusCode::kInternal);
  }
  EXPECT_EQ(loop->health().message(), "CUDA: an illegal memory access was encountered");
  EXPECT_EQ(loop->stats().kv.used_pages, 0);
  const absl::Status later =
      loop->Submit(RandomRequest(9, 5, 2, kVocab), std::make_shared<WaitableSink>());
  EXPECT_EQ(later.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(later.message(),
            "the device has failed: CUDA: an illegal memory access was encountered");
}

}  // namespace
}  // namespace mea::testing
