// A server from its start to its end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "engine/clock.h"
#include "tests/server/http/http_fixture.h"

namespace mea::testing {
namespace {

TEST(HttpLifecycleTest, BadAddressesAreSaidSo) {
  HttpFixture f;
  EXPECT_EQ(
      HttpServer::Start({.listen = f.server->address()}, {}).status().message(),
      f.server->address() + ": Address already in use; choose another port, 0 takes a free one");
  EXPECT_EQ(HttpServer::Start({.listen = "nonsense"}, {}).status().message(),
            "'nonsense' is not HOST:PORT with a port of 0..65535");
}

TEST(HttpLifecycleTest, PortCanBeHadAgainAtOnce) {
  std::string address;
  {
    HttpFixture f;
    address = f.server->address();
    RawClient client = f.Connect();
    EXPECT_EQ(client.Ask("GET /hello HTTP/1.1\r\nConnection: close\r\n\r\n").code, 200);
  }
  EXPECT_TRUE(HttpServer::Start({.listen = address}, {}).ok());
}

TEST(HttpLifecycleTest, ConnectionsWaitUntilItServes) {
  std::atomic<bool> serves = false;
  const auto when = [&](std::shared_ptr<HttpExchange> exchange) {
    exchange->Send({.body = serves ? "served" : "too early"});
    return nullptr;
  };
  auto server = HttpServer::Listen({.listen = "127.0.0.1:0"}, {{"GET", "/", when}});
  ASSERT_TRUE(server.ok()) << server.status();
  RawClient client((*server)->address());
  ASSERT_TRUE(client.Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
  EXPECT_FALSE(client.HasBytes(absl::Milliseconds(50)));
  serves = true;
  (*server)->Serve();
  EXPECT_EQ(client.Read().body, "served");
}

TEST(HttpLifecycleTest, AServerThatNeverServedEnds) {
  auto server = HttpServer::Listen({.listen = "127.0.0.1:0"}, {});
  ASSERT_TRUE(server.ok()) << server.status();
  RawClient client((*server)->address());
  server->reset();
  EXPECT_TRUE(client.AtEnd());
}

TEST(HttpLifecycleTest, Ipv6IsServed) {
  const auto server = HttpServer::Start({.listen = "[::1]:0"}, {});
  if (!server.ok()) GTEST_SKIP() << server.status();
  EXPECT_THAT((*server)->address(), ::testing::StartsWith("[::1]:"));
}

TEST(HttpLifecycleTest, DrainLetsAnswersFinishAndClosesTheRest) {
  HttpFixture f;
  RawClient idle = f.Connect();
  EXPECT_EQ(idle.Ask(kGetHello).code, 200);
  RawClient silent = f.Connect();
  RawClient whole = f.Connect();
  ASSERT_TRUE(whole.Send(kGetCall));
  const auto whole_call = f.AwaitCall();
  RawClient streamed = f.Connect();
  ASSERT_TRUE(streamed.Send(kGetCall));
  const auto stream_call = f.AwaitCall();
  stream_call->exchange->Begin({});

  std::thread drain([&] { f.server->Drain(Now() + absl::Seconds(20)); });
  EXPECT_TRUE(idle.AtEnd());
  EXPECT_TRUE(silent.AtEnd());
  whole_call->exchange->Send({.body = "whole"});
  const RawAnswer answer = whole.Read();
  EXPECT_EQ(answer.body, "whole");
  EXPECT_EQ(answer.Header("Connection"), "close");
  stream_call->exchange->Write("end");
  stream_call->exchange->End();
  EXPECT_EQ(streamed.Read().body, "end");
  EXPECT_TRUE(streamed.AtEnd());
  drain.join();
  EXPECT_FALSE(whole_call->AwaitGone(absl::ZeroDuration()));
}

TEST(HttpLifecycleTest, WhatIsLeftAtTheDeadlineIsCutOff) {
  HttpFixture f({.num_threads = 2});
  RawClient client = f.Connect();
  ASSERT_TRUE(client.Send(kGetCall));
  const auto call = f.AwaitCall();
  RawClient stream = f.Connect();
  ASSERT_TRUE(stream.Send(kGetCall));
  const auto stream_call = f.AwaitCall();
  stream_call->exchange->Begin({});
  f.server->Drain(Now() + absl::Milliseconds(100));
  EXPECT_TRUE(call->AwaitGone(absl::ZeroDuration()));
  EXPECT_TRUE(stream_call->AwaitGone(absl::ZeroDuration()));
  EXPECT_FALSE(client.Read().whole);
  EXPECT_FALSE(stream.Read().whole);
  f.server->Drain(absl::InfiniteFuture());  // a second time: nothing is left
}

TEST(HttpLifecycleTest, ExchangesMayOutliveTheServer) {
  std::vector<std::shared_ptr<TestCall>> calls;
  {
    HttpFixture f;
    std::vector<RawClient> clients;
    for (int i = 0; i < 5; ++i) {
      clients.push_back(f.Connect());
      ASSERT_TRUE(clients.back().Send(kGetCall));
      calls.push_back(f.AwaitCall());
    }
  }
  for (const auto& call : calls) {
    EXPECT_TRUE(call->AwaitGone(absl::ZeroDuration()));
    call->exchange->Begin({});
    call->exchange->Write("late");
    call->exchange->End();
    call->exchange->Abort();
    call->exchange->Send({});
    EXPECT_EQ(call->exchange->request().path, "/call");
  }
}

TEST(HttpLifecycleTest, ServerEndsWhileThreadsAnswer) {
  for (int round = 0; round < 20; ++round) {
    auto f = std::make_unique<HttpFixture>(HttpOptions{.num_threads = 2});
    std::vector<RawClient> clients;
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i) {
      clients.push_back(f->Connect());
      ASSERT_TRUE(clients.back().Send(kGetCall));
      threads.emplace_back([call = f->AwaitCall()] {
        call->exchange->Begin({});
        for (int n = 0; n < 200; ++n) call->exchange->Write("piece");
        call->exchange->End();
      });
    }
    f.reset();
    for (std::thread& thread : threads) thread.join();
  }
}

}  // namespace
}  // namespace mea::testing
