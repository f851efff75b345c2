// What happens between the call and the engine, with the text workers held still.
#include "server/generation.h"

#include <gtest/gtest.h>

#include <atomic>

#include "absl/synchronization/notification.h"
#include "engine/clock.h"
#include "server/prepare_prompt.h"
#include "tests/server/fake_engine.h"
#include "tests/server/test_tokenizer.h"

namespace mea::testing {
namespace {

// Waits for the end of one generation.
class Listener final : public OutputListener {
 public:
  void OnOutput() override { output_.store(true); }
  bool heard() const { return output_; }

 private:
  std::atomic<bool> output_ = false;
};

class GenerationTest : public ::testing::Test {
 protected:
  GenerationTest() {
    EXPECT_TRUE(workers_.Post([this] {
      held_.Notify();
      release_.WaitForNotification();
    }));
    held_.WaitForNotification();
  }
  ~GenerationTest() override { Release(); }

  void Release() {
    if (!release_.HasBeenNotified()) release_.Notify();
  }

  std::shared_ptr<Generation> Make(const std::string& id) {
    GenerationSpec spec;
    spec.request.id = id;
    spec.prompt_text = "hey";
    return std::make_shared<Generation>(serving_, std::move(spec),
                                        OutputBound{1 << 20, absl::ResourceExhaustedError("full")},
                                        listener_);
  }

  // The end of the generation, once the workers have done what there is to do.
  absl::Status End(Generation& generation) {
    Release();
    absl::Notification done;
    EXPECT_TRUE(workers_.Post([&] { done.Notify(); }));  // behind the prompt
    done.WaitForNotification();
    while (auto output = generation.mailbox().Take()) {
      if (auto* finish = std::get_if<FinishOutput>(&*output)) return finish->status;
    }
    return absl::UnknownError("not finished");
  }

  FakeEngine engine_{{.automatic = false}};
  std::unique_ptr<Tokenizer> tokenizer_ = MakeTestTokenizer();
  Metrics metrics_{{.model_name = "fake"}};
  Log log_{{.level = LogLevel::kOff}};
  absl::Notification held_, release_;
  TextWorkers workers_{1, 2};
  Serving serving_{"fake", engine_, *tokenizer_, metrics_, log_, workers_, workers_};
  std::shared_ptr<Listener> listener_ = std::make_shared<Listener>();
};

TEST_F(GenerationTest, CancelledBeforeItsPromptIsEncodedNeverReachesTheEngine) {
  const auto generation = Make("a");
  ASSERT_TRUE(generation->Start().ok());
  generation->Cancel(absl::CancelledError("gone"));
  EXPECT_EQ(End(*generation), absl::CancelledError("gone"));
  EXPECT_EQ(engine_.num_submitted(), 0);
  EXPECT_EQ(serving_.requests.size(), 0);
  EXPECT_TRUE(listener_->heard());
}

TEST_F(GenerationTest, IdIsTakenFromTheStart) {
  const auto first = Make("a");
  ASSERT_TRUE(first->Start().ok());
  EXPECT_TRUE(absl::IsAlreadyExists(Make("a")->Start()));
  EXPECT_EQ(serving_.requests.Find("a"), first);
}

TEST_F(GenerationTest, FullTextQueueRefusesAndFreesTheId) {
  ASSERT_TRUE(Make("a")->Start().ok());
  ASSERT_TRUE(Make("b")->Start().ok());
  EXPECT_TRUE(absl::IsResourceExhausted(Make("c")->Start()));
  EXPECT_EQ(serving_.requests.Find("c"), nullptr);
  EXPECT_EQ(serving_.requests.size(), 2);
}

TEST_F(GenerationTest, DeadlinePassedWhileWaitingForAWorkerIsExceeded) {
  GenerationSpec spec;
  spec.request.id = "a";
  spec.prompt_text = "hey";
  spec.request.deadline = Now();
  const auto generation = std::make_shared<Generation>(
      serving_, std::move(spec), OutputBound{1 << 20, absl::OkStatus()}, listener_);
  ASSERT_TRUE(generation->Start().ok());
  EXPECT_TRUE(absl::IsDeadlineExceeded(End(*generation)));
  EXPECT_EQ(engine_.num_submitted(), 0);
}

TEST_F(GenerationTest, PreparingAPromptIsAskedForWhileItGoesOn) {
  GenerationSpec spec;
  spec.prompt_text = std::string(1 << 20, 'a');
  int num_questions = 0;
  const auto gone = [&]() -> absl::Status {
    return ++num_questions < 10 ? absl::OkStatus() : absl::CancelledError("gone");
  };
  EXPECT_EQ(PreparePrompt(serving_, gone, spec), absl::CancelledError("gone"));
  EXPECT_EQ(num_questions, 10);
  EXPECT_TRUE(spec.request.prompt.empty());
}

TEST_F(GenerationTest, APromptThatWaitsWhenTheServerDrainsIsGivenUp) {
  const auto generation = Make("a");
  ASSERT_TRUE(generation->Start().ok());
  serving_.readiness.Set(ServingState::kDraining);
  EXPECT_EQ(End(*generation), absl::UnavailableError("the server is DRAINING"));
  EXPECT_EQ(engine_.num_submitted(), 0);
}

TEST_F(GenerationTest, DrainingServerTakesNothing) {
  serving_.readiness.Set(ServingState::kDraining);
  EXPECT_EQ(Make("a")->Start(), absl::UnavailableError("the server is DRAINING"));
  EXPECT_EQ(serving_.requests.size(), 0);
}

}  // namespace
}  // namespace mea::testing
