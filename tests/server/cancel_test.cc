// Requests that end before their time, and clients that do not read.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/time/clock.h"
#include "engine/clock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/limits.h"
#include "tests/server/server_fixture.h"

namespace mea::testing {
namespace {

using ::testing::HasSubstr;

constexpr int kManyTokens = 1'000'000;

// Answers every prompt with `count` tokens of one kilobyte.
FakeEngine::Script LongAnswer(int count) {
  return [count](const Request&) { return std::vector<int32_t>(count, kLongToken); };
}

TEST(CancelTest, CancelledStreamFreesItsRequestWithinOneStep) {
  for (const int steps_before : {0, 1, 3}) {
    ServerFixture f({.automatic = false});
    f.engine.SetScript(LongAnswer(100));
    const auto context = f.Context();
    const auto reader = f.inference->GenerateStream(context.get(), TextRequest("hey"));
    ASSERT_TRUE(f.engine.AwaitSubmitted(1));
    f.engine.Step(steps_before);
    context->TryCancel();
    EXPECT_EQ(ReadAll(*reader).status.error_code(), grpc::StatusCode::CANCELLED);
    ASSERT_TRUE(f.engine.AwaitCancels(1)) << steps_before;
    f.engine.Step();
    EXPECT_EQ(f.engine.stats().num_running, 0) << steps_before;
    EXPECT_EQ(f.engine.stats().kv.used_pages, 0) << steps_before;
  }
}

TEST(CancelTest, CancelledUnaryCallFreesItsRequest) {
  ServerFixture f({.automatic = false});
  const auto context = f.Context();
  std::thread canceller([&] {
    EXPECT_TRUE(f.engine.AwaitSubmitted(1));
    context->TryCancel();
  });
  v1::GenerateResponse response;
  const grpc::Status status = f.inference->Generate(context.get(), TextRequest("hey"), &response);
  canceller.join();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::CANCELLED);
  ASSERT_TRUE(f.engine.AwaitCancels(1));
  f.engine.Step();
  EXPECT_EQ(f.engine.stats().num_running, 0);
}

TEST(CancelTest, CancelAfterTheEndChangesNothing) {
  ServerFixture f;
  const auto context = f.Context();
  const auto reader = f.inference->GenerateStream(context.get(), TextRequest("hey"));
  EXPECT_TRUE(ReadAll(*reader).status.ok());
  context->TryCancel();
  EXPECT_TRUE(f.Stream(TextRequest("hey")).status.ok());
}

TEST(CancelTest, VanishedClientFreesItsRequest) {
  ServerFixture f({.automatic = false});
  auto channel = f.NewChannel();
  auto stub = v1::Inference::NewStub(channel);
  auto context = std::make_unique<grpc::ClientContext>();
  auto reader = stub->GenerateStream(context.get(), TextRequest("hey"));
  ASSERT_TRUE(f.engine.AwaitSubmitted(1));
  reader.reset();
  context.reset();
  stub.reset();
  channel.reset();
  ASSERT_TRUE(f.engine.AwaitCancels(1));
  f.engine.Step();
  EXPECT_EQ(f.engine.stats().num_running, 0);
  EXPECT_EQ(f.engine.stats().kv.used_pages, 0);
}

TEST(CancelTest, AbortEndsTheRequestWithCancelled) {
  ServerFixture f({.automatic = false});
  v1::GenerateRequest request = TextRequest("hey");
  request.set_request_id("victim");
  const auto context = f.Context();
  const auto reader = f.inference->GenerateStream(context.get(), request);
  ASSERT_TRUE(f.engine.AwaitSubmitted(1));
  v1::AbortRequest abort;
  abort.set_request_id("victim");
  v1::AbortResponse response;
  ASSERT_TRUE(f.control->Abort(f.Context().get(), abort, &response).ok());
  ASSERT_TRUE(f.engine.AwaitCancels(1));
  f.engine.Step();
  const StreamResult result = ReadAll(*reader);
  EXPECT_EQ(result.status.error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(result.status.error_message(), "aborted by Control.Abort");

  const grpc::Status again = f.control->Abort(f.Context().get(), abort, &response);
  EXPECT_EQ(again.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(again.error_message(), "request_id 'victim' is not in flight");
}

TEST(CancelTest, AbortWithoutAnIdIsInvalid) {
  ServerFixture f;
  v1::AbortResponse response;
  EXPECT_EQ(f.control->Abort(f.Context().get(), {}, &response).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
}

TEST(CancelTest, AnIdThatNoRequestMayHaveIsNotRepeated) {
  ServerFixture f;
  v1::AbortRequest abort;
  abort.set_request_id(std::string(129, 'x'));
  v1::AbortResponse response;
  const grpc::Status status = f.control->Abort(f.Context().get(), abort, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "request_id has 129 bytes, the most is 128");
}

TEST(CancelTest, DeadlineEndsAQueuedAndARunningRequest) {
  for (const int steps : {0, 2}) {
    ServerFixture f({.automatic = false});
    f.engine.SetScript(LongAnswer(100));
    const auto context = f.Context(absl::Milliseconds(100));
    const auto reader = f.inference->GenerateStream(context.get(), TextRequest("hey"));
    ASSERT_TRUE(f.engine.AwaitSubmitted(1));
    f.engine.Step(steps);
    EXPECT_EQ(ReadAll(*reader).status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
    absl::SleepFor(f.engine.last_request().deadline - Now());  // the server's clock started later
    f.engine.Step();
    EXPECT_EQ(f.engine.stats().num_running, 0);
  }
}

TEST(CancelTest, DeadlineReachesTheEngine) {
  ServerFixture f;
  const absl::Time before = Now();
  ASSERT_TRUE(f.Stream(TextRequest("hey")).status.ok());  // a deadline of 20 seconds
  EXPECT_GT(f.engine.last_request().deadline, before);
  EXPECT_LT(f.engine.last_request().deadline, before + absl::Seconds(60));
}

TEST(CancelTest, SlowClientReceivesFewerLongerDeltasAndEveryToken) {
  ServerFixture f;
  constexpr int kTokens = 800;  // less than kMaxUnreadBytes
  f.engine.SetScript(LongAnswer(kTokens));
  const auto context = f.Context();
  const auto reader = f.inference->GenerateStream(context.get(), TextRequest("hey", kTokens));
  ASSERT_TRUE(f.engine.AwaitSubmitted(1));
  ASSERT_TRUE(f.engine.AwaitInFlight(0));  // the engine did not wait
  const StreamResult result = ReadAll(*reader);
  ASSERT_TRUE(result.status.ok()) << result.status.error_message();
  EXPECT_EQ(std::ssize(result.token_ids), kTokens);
  EXPECT_EQ(std::ssize(result.text), kTokens * kLongTokenBytes);
  EXPECT_LT(result.num_deltas, kTokens);
}

TEST(CancelTest, ClientThatDoesNotReadIsEndedAtTheBound) {
  ServerFixture f;
  f.engine.SetScript(LongAnswer(kManyTokens));
  const auto context = f.Context();
  const auto reader = f.inference->GenerateStream(context.get(), TextRequest("hey", kManyTokens));
  ASSERT_TRUE(f.engine.AwaitSubmitted(1));
  ASSERT_TRUE(f.engine.AwaitCancels(1));
  ASSERT_TRUE(f.engine.AwaitInFlight(0));
  const StreamResult result = ReadAll(*reader);
  EXPECT_EQ(result.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(result.status.error_message(),
            "the client left more than 1048576 bytes of output unread");
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(result.status.error_details()));
  ASSERT_EQ(details.details_size(), 1);  // it is not worth coming back: no RetryInfo
  google::rpc::ErrorInfo info;
  ASSERT_TRUE(details.details(0).UnpackTo(&info));
  EXPECT_EQ(info.reason(), "OUTPUT_UNREAD");
}

TEST(CancelTest, OneSlowClientDoesNotDelayAnother) {
  ServerFixture f;
  f.engine.SetScript([](const Request& request) {
    return std::vector<int32_t>(request.prompt.size() == 4 ? kManyTokens : 5, kLongToken);
  });
  const auto slow_context = f.Context();
  const auto slow =
      f.inference->GenerateStream(slow_context.get(), TextRequest("slow", kManyTokens));
  ASSERT_TRUE(f.engine.AwaitSubmitted(1));
  EXPECT_TRUE(f.Stream(TextRequest("hey")).status.ok());
  slow_context->TryCancel();
  EXPECT_FALSE(ReadAll(*slow).status.ok());
}

TEST(CancelTest, StuckClientsOnTheirOwnConnectionsDelayNobody) {
  constexpr int kStuck = 6;  // more than there are text workers
  ServerFixture f({.max_num_seqs = kStuck + 1});
  f.engine.SetScript([](const Request& request) {
    return std::vector<int32_t>(request.prompt.size() == 5 ? kManyTokens : 50, kLongToken);
  });
  std::vector<std::unique_ptr<v1::Inference::Stub>> stubs;
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::GenerateStreamResponse>>> stuck;
  for (int i = 0; i < kStuck; ++i) {
    stubs.push_back(v1::Inference::NewStub(f.NewChannel()));
    contexts.push_back(f.Context());
    stuck.push_back(
        stubs.back()->GenerateStream(contexts.back().get(), TextRequest("stuck", kManyTokens)));
  }
  ASSERT_TRUE(f.engine.AwaitSubmitted(kStuck));
  const StreamResult prompt = f.Stream(TextRequest("hey", 50));
  EXPECT_TRUE(prompt.status.ok()) << prompt.status.error_message();
  EXPECT_EQ(std::ssize(prompt.token_ids), 50);
  // Nobody reads: each reaches its bound, and costs the engine nothing from then on.
  ASSERT_TRUE(f.engine.AwaitInFlight(0));
  for (const auto& stream : stuck) {
    EXPECT_EQ(ReadAll(*stream).status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  }
}

TEST(CancelTest, ManyStreamsWithSomeCancelledLeaveNothingBehind) {
  ServerFixture f({.max_num_seqs = 8, .max_queued_requests = 64});
  f.engine.SetAnswer(std::string(50, 'a'));
  std::vector<std::thread> clients;
  for (int c = 0; c < 8; ++c) {
    clients.emplace_back([&f, c] {
      for (int i = 0; i < 10; ++i) {
        const auto context = f.Context();
        const auto reader = f.inference->GenerateStream(context.get(), TextRequest("hey"));
        if ((c + i) % 3 == 0) context->TryCancel();
        const StreamResult result = ReadAll(*reader);
        if (result.status.ok()) {
          EXPECT_EQ(result.text, std::string(50, 'a'));
        } else {
          EXPECT_EQ(result.status.error_code(), grpc::StatusCode::CANCELLED);
        }
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_TRUE(f.engine.AwaitInFlight(0));
  EXPECT_EQ(f.engine.stats().kv.used_pages, 0);
}

}  // namespace
}  // namespace mea::testing
