// A server from its start to its end.
#include <gmock/gmock.h>
#include <grpcpp/impl/server_builder_plugin.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/notification.h"
#include "engine/clock.h"
#include "server/address.h"
#include "server/limits.h"
#include "server/readiness.h"
#include "tests/server/http/http_fixture.h"
#include "tests/server/server_fixture.h"

namespace mea::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Health = grpc::health::v1::HealthCheckResponse;

TEST(LifecycleTest, EveryServiceIsServingFromTheStart) {
  ServerFixture f;
  for (const char* service : {"", "mea.v1.Inference", "mea.v1.Control"}) {
    EXPECT_EQ(f.Health(service), Health::SERVING) << service;
  }
  std::string head;
  EXPECT_EQ(f.HttpGet("/health", &head), "SERVING\n");
  EXPECT_THAT(head, StartsWith("HTTP/1.1 200"));
}

// Called while a gRPC server of this process is built.
std::function<void()> while_built;

class WhileBuilt final : public grpc::ServerBuilderPlugin {
 public:
  std::string name() override { return "while_built"; }
  void InitServer(grpc::ServerInitializer*) override {
    if (while_built) while_built();
  }
  void Finish(grpc::ServerInitializer*) override {}
  void ChangeArguments(const std::string&, void*) override {}
};

std::string FreeAddress() {
  Address address{"127.0.0.1", 0};
  close(*Listen(address));
  return address.ToString();
}

TEST(LifecycleTest, NoPortAnswersBeforeAllOfThemListen) {
  ServerFixture f;
  const std::string listen = FreeAddress();
  const std::string admin = FreeAddress();
  const std::string http = FreeAddress();
  RawClient probe;
  grpc::ServerBuilder::InternalAddPluginFactory([]() -> std::unique_ptr<grpc::ServerBuilderPlugin> {
    return std::make_unique<WhileBuilt>();
  });
  while_built = [&] {
    for (const std::string& port : {listen, http}) RawClient().Connect(port);
    probe.Connect(admin);
    EXPECT_TRUE(probe.Send("GET /health HTTP/1.1\r\nHost: a\r\n\r\n"));
    EXPECT_FALSE(probe.HasBytes(absl::Milliseconds(50)));
  };
  const auto server =
      Server::Start({listen, admin, http, {}, "fake"}, f.engine, *f.tokenizer, f.metrics, *f.log);
  while_built = nullptr;
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_EQ(probe.Read().body, "SERVING\n");
}

TEST(LifecycleTest, ReadyLineNamesModelAddressesAndMemory) {
  ServerFixture f({.max_context = 160});
  EXPECT_EQ(
      f.server->ready_line(),
      "serving fake: gRPC " + f.server->listen_address() + ", OpenAI API http://" +
          f.server->http_address() + "/v1, metrics http://" + f.server->admin_address() +
          "/metrics; KV cache 100.00 KiB (200.00 KiB uncompressed, ratio 0.500), room for 1600 "
          "tokens or 10 sequences of 160; weights 1000 B, workspace 500 B, scratch 300 B, set "
          "aside for graphs 100 B");
}

TEST(LifecycleTest, ReadyLineNamesWhatIsOff) {
  ServerFixture f;
  const auto server =
      Server::Start({"127.0.0.1:0", "", "", {}, "fake"}, f.engine, *f.tokenizer, f.metrics, *f.log);
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_THAT((*server)->ready_line(),
              StartsWith("serving fake: gRPC " + (*server)->listen_address() +
                         ", OpenAI API off, metrics off; KV cache "));
}

TEST(LifecycleTest, EachPortServesWithoutTheOthers) {
  ServerFixture f;
  f.engine.SetAnswer("hello");
  const auto start = [&](std::string listen, std::string admin, std::string http) {
    auto server = Server::Start({std::move(listen), std::move(admin), std::move(http), {}, "fake"},
                                f.engine, *f.tokenizer, f.metrics, *f.log);
    EXPECT_TRUE(server.ok()) << server.status();
    return *std::move(server);
  };
  const auto http = start("", "", "127.0.0.1:0");
  EXPECT_THAT(http->ready_line(), StartsWith("serving fake: gRPC off, OpenAI API http://"));
  std::string head;
  f.HttpGet("/v1/models", &head, http->http_address());
  EXPECT_THAT(head, StartsWith("HTTP/1.1 200"));
  const auto admin = start("", "127.0.0.1:0", "");
  EXPECT_EQ(f.HttpGet("/health", nullptr, admin->admin_address()), "SERVING\n");
  f.engine.StopHeart();  // the state is watched there too
  f.AwaitLog("engine stalled");
  http->Drain(absl::Now());
}

TEST(LifecycleTest, DrainRefusesNewRequestsAndLetsRunningOnesFinish) {
  ServerFixture f({.automatic = false});
  const auto context = f.Context();
  const auto reader = f.inference->GenerateStream(context.get(), TextRequest("hey"));
  ASSERT_TRUE(f.engine.AwaitSubmitted(1));

  grpc::ClientContext watch_context;
  const auto watcher = grpc::health::v1::Health::NewStub(f.channel)->Watch(&watch_context, {});
  Health health;
  ASSERT_TRUE(watcher->Read(&health));
  ASSERT_EQ(health.status(), Health::SERVING);
  std::thread drain([&] { f.server->Drain(Now() + absl::Seconds(20)); });
  ASSERT_TRUE(watcher->Read(&health));
  EXPECT_EQ(health.status(), Health::NOT_SERVING);

  const grpc::Status refused = f.Try(TextRequest("late"));
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(refused.error_message(), "the server is DRAINING");
  std::string head;
  EXPECT_EQ(f.HttpGet("/health", &head), "DRAINING\n");
  EXPECT_THAT(f.HttpGet("/status.json"), HasSubstr("\"state\":\"DRAINING\""));
  EXPECT_THAT(head, StartsWith("HTTP/1.1 503"));

  f.engine.Step(6);
  const StreamResult result = ReadAll(*reader);
  EXPECT_TRUE(result.status.ok()) << result.status.error_message();
  EXPECT_EQ(result.text, "hello");
  watch_context.TryCancel();
  drain.join();
}

std::string TokenizeOverHttp(const std::string& body) {
  return absl::StrCat("POST /tokenize HTTP/1.1\r\nHost: a\r\nContent-Length: ", body.size(),
                      "\r\n\r\n", body);
}

TEST(LifecycleTest, DrainLetsTextCallsFinishAndRefusesNewOnes) {
  std::atomic<bool> hold = false;
  absl::BlockingCounter held(2);
  absl::Notification go_on;
  ServerFixture f({.on_max_context = [&] {
    if (!hold) return;
    held.DecrementCount();
    go_on.WaitForNotification();
  }});
  hold = true;
  const auto tokenize = [&] {
    v1::TokenizeRequest request;
    request.set_text("hey");
    v1::TokenizeResponse response;
    return f.inference->Tokenize(f.Context().get(), request, &response);
  };
  const std::string over_http = TokenizeOverHttp(R"({"prompt": "hey"})");
  grpc::Status status;
  std::thread client([&] { status = tokenize(); });
  RawClient http_client(f.server->http_address());
  ASSERT_TRUE(http_client.Send(over_http));
  held.Wait();
  hold = false;

  std::thread drain([&] { f.server->Drain(absl::Now() + absl::Seconds(20)); });
  while (f.HttpGet("/health") != "DRAINING\n") absl::SleepFor(absl::Milliseconds(5));
  EXPECT_EQ(tokenize().error_message(), "the server is DRAINING");
  const RawAnswer refused = RawClient(f.server->http_address()).Ask(over_http);
  EXPECT_EQ(refused.code, 503);
  EXPECT_EQ(refused.Header("Connection"), "close");
  absl::SleepFor(kFlushTimeout + absl::Milliseconds(500));  // a drain that does not wait is over
  go_on.Notify();
  client.join();
  EXPECT_TRUE(status.ok()) << status.error_message();
  const RawAnswer answer = http_client.Read();
  EXPECT_EQ(answer.code, 200);
  EXPECT_EQ(answer.Header("Connection"), "close");
  drain.join();
}

TEST(LifecycleTest, WhatIsLeftAtTheEndOfADrainIsUnavailable) {
  ServerFixture f({.automatic = false});
  const auto context = f.Context();
  const auto reader = f.inference->GenerateStream(context.get(), TextRequest("hey"));
  ASSERT_TRUE(f.engine.AwaitSubmitted(1));
  f.server->Drain(Now());
  const StreamResult result = ReadAll(*reader);
  EXPECT_EQ(result.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(result.status.error_message(), "the server is shutting down");
}

TEST(LifecycleTest, FaultOfTheEngineIsInternalThenNotServing) {
  ServerFixture f({.automatic = false});
  const auto context = f.Context();
  const auto reader = f.inference->GenerateStream(context.get(), TextRequest("hey"));
  ASSERT_TRUE(f.engine.AwaitSubmitted(1));
  f.engine.Break(absl::InternalError("the device is gone"));
  f.engine.Step();
  const StreamResult result = ReadAll(*reader);
  EXPECT_EQ(result.status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(result.status.error_message(), "the device is gone");
  EXPECT_EQ(f.Health(), Health::NOT_SERVING);
  const grpc::Status refused = f.Try(TextRequest("late"));
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(refused.error_message(), "the server is FAILED");
  v1::GetServerInfoResponse info;
  ASSERT_TRUE(f.control->GetServerInfo(f.Context().get(), {}, &info).ok());
  EXPECT_EQ(info.state(), v1::SERVER_STATE_FAILED);
}

TEST(LifecycleTest, ARequestThatEndsInternalEndsNothingElse) {
  ServerFixture f({.automatic = false});
  const auto context = f.Context();
  const auto reader = f.inference->GenerateStream(context.get(), TextRequest("hey"));
  ASSERT_TRUE(f.engine.AwaitSubmitted(1));
  f.engine.FailAll(absl::InternalError("logits are NaN"));
  f.engine.Step();
  EXPECT_EQ(ReadAll(*reader).status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(f.Health(), Health::SERVING);
}

TEST(LifecycleTest, FaultOfTheEngineEndsRunningAndQueuedRequestsAlike) {
  ServerFixture f({.max_num_seqs = 1, .automatic = false});
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::GenerateStreamResponse>>> streams;
  for (int i = 0; i < 3; ++i) {
    contexts.push_back(f.Context());
    streams.push_back(f.inference->GenerateStream(contexts.back().get(), TextRequest("hey")));
  }
  ASSERT_TRUE(f.engine.AwaitSubmitted(3));
  f.engine.Step();
  f.engine.Break(absl::InternalError("the device is gone"));
  f.engine.Step();
  for (const auto& stream : streams) {
    EXPECT_EQ(ReadAll(*stream).status.error_code(), grpc::StatusCode::INTERNAL);
  }
}

TEST(LifecycleTest, SilentEngineIsNotServing) {
  ServerFixture f;
  grpc::ClientContext context;
  const auto watcher = grpc::health::v1::Health::NewStub(f.channel)->Watch(&context, {});
  Health health;
  ASSERT_TRUE(watcher->Read(&health));
  f.engine.StopHeart();
  ASSERT_TRUE(watcher->Read(&health));
  EXPECT_EQ(health.status(), Health::NOT_SERVING);
  const grpc::Status refused = f.Try(TextRequest("hey"));
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(refused.error_message(), "the server is STALLED");
  v1::GetServerInfoResponse info;
  ASSERT_TRUE(f.control->GetServerInfo(f.Context().get(), {}, &info).ok());
  EXPECT_EQ(info.state(), v1::SERVER_STATE_STALLED);

  f.engine.StartHeart();
  ASSERT_TRUE(watcher->Read(&health));
  EXPECT_EQ(health.status(), Health::SERVING);
  EXPECT_TRUE(f.Try(TextRequest("hey")).ok());
  context.TryCancel();
}

TEST(LifecycleTest, PortOfTheApiAnswersProbesToo) {
  ServerFixture f;
  std::string head;
  EXPECT_EQ(f.HttpGet("/health", &head, f.server->http_address()), "{\"status\":\"ok\"}");
  EXPECT_THAT(head, AllOf(StartsWith("HTTP/1.1 200"), HasSubstr("Server: mea/")));
}

TEST(LifecycleTest, AnAddressThatCannotBeHadIsSaidOfItsFlag) {
  ServerFixture f;
  const auto again = [&](std::string listen, std::string admin, std::string http = "") {
    return Server::Start({std::move(listen), std::move(admin), std::move(http), {}, "again"},
                         f.engine, *f.tokenizer, f.metrics, *f.log)
        .status();
  };
  const auto in_use = [](const std::string& address) {
    return address + ": Address already in use; choose another port, 0 takes a free one";
  };
  EXPECT_EQ(again(f.server->listen_address(), "").message(),
            "--listen " + in_use(f.server->listen_address()));
  EXPECT_EQ(again("127.0.0.1:0", f.server->admin_address()).message(),
            "--admin " + in_use(f.server->admin_address()));
  EXPECT_EQ(again("127.0.0.1:0", "", f.server->http_address()).message(),
            "--http " + in_use(f.server->http_address()));
  EXPECT_EQ(again("nonsense", "").message(),
            "--listen 'nonsense' is not HOST:PORT with a port of 0..65535");
  EXPECT_EQ(again("", "").message(), "--listen, --http and --admin are all off");
  EXPECT_EQ(again("127.0.0.1:0", "127.0.0.1:99999").message(),
            "--admin '127.0.0.1:99999' is not HOST:PORT with a port of 0..65535");
  EXPECT_EQ(again("127.0.0.1:0", "", "127.0.0.1").message(),
            "--http '127.0.0.1' is not HOST:PORT with a port of 0..65535");
}

TEST(ReadinessTest, StateOnlyGetsWorseButForAStallThatEnds) {
  Readiness readiness;
  std::vector<ServingState> seen;
  readiness.Observe([&](ServingState state) { seen.push_back(state); });
  EXPECT_TRUE(readiness.Set(ServingState::kStalled));
  EXPECT_TRUE(readiness.Set(ServingState::kServing));
  EXPECT_TRUE(readiness.Set(ServingState::kDraining));
  EXPECT_FALSE(readiness.Set(ServingState::kServing));
  EXPECT_FALSE(readiness.Set(ServingState::kStalled));
  EXPECT_TRUE(readiness.Set(ServingState::kFailed));
  EXPECT_FALSE(readiness.Set(ServingState::kDraining));
  using enum ServingState;
  EXPECT_THAT(seen, ::testing::ElementsAre(kServing, kStalled, kServing, kDraining, kFailed));
}

TEST(AddressTest, ReadsHostsAndPorts) {
  EXPECT_EQ(ParseAddress("127.0.0.1:80")->ToString(), "127.0.0.1:80");
  EXPECT_EQ(ParseAddress("[::1]:80")->host, "::1");
  EXPECT_EQ(ParseAddress("[::1]:80")->ToString(), "[::1]:80");
  for (const char* bad : {"", "localhost", ":80", "a:b", "a:-1", "a:65536"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseAddress(bad).status())) << bad;
  }
}

TEST(AddressTest, KnowsWhatStaysOnThisMachine) {
  for (const char* here : {"127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "localhost:1", "0.0.0.0:1"}) {
    EXPECT_TRUE(IsLoopback(*ParseAddress(here))) << here;
  }
  for (const char* there : {"10.0.0.7:1", "[2001:db8::1]:1", "localhost.example.org:1"}) {
    EXPECT_FALSE(IsLoopback(*ParseAddress(there))) << there;
  }
}

}  // namespace
}  // namespace mea::testing
