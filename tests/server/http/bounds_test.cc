// What a client may send, and how long it may take.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/server/http/http_fixture.h"

namespace mea::testing {
namespace {

using ::testing::HasSubstr;

std::string PostOf(int64_t length) {
  return absl::StrCat("POST /echo HTTP/1.1\r\nContent-Length: ", length, "\r\n\r\n");
}

// A request whose header has that many bytes.
std::string GetOf(size_t header_bytes) {
  const std::string start = "GET /hello HTTP/1.1\r\nX: ";
  return start + std::string(header_bytes - start.size() - 4, 'x') + "\r\n\r\n";
}

TEST(HttpBoundsTest, HeaderThatIsTooLongIsRefused) {
  HttpFixture f({.max_header_bytes = 1024});
  RawClient client = f.Connect();
  EXPECT_EQ(client.Ask(GetOf(1000)).code, 200);
  const RawAnswer answer = client.Ask(GetOf(1100));
  EXPECT_EQ(answer.code, 431);
  EXPECT_EQ(answer.body, "the request's header exceeds 1024 bytes\n");
}

TEST(HttpBoundsTest, HeaderIsRefusedWithoutWaitingForItsEnd) {
  HttpFixture f({.max_header_bytes = 1024});
  EXPECT_EQ(f.Connect().Ask("GET /" + std::string(2000, 'a')).code, 431);
  const std::string line = "X: " + std::string(100, 'x') + "\r\n";
  std::string lines;
  for (int i = 0; i < 20; ++i) lines += line;
  EXPECT_EQ(f.Connect().Ask("GET /hello HTTP/1.1\r\n" + lines).code, 431);
}

TEST(HttpBoundsTest, TooManyHeadersAreRefused) {
  HttpFixture f;
  std::string lines;
  for (int i = 0; i < 300; ++i) lines += "A: b\r\n";
  const RawAnswer answer = f.Connect().Ask("GET /hello HTTP/1.1\r\n" + lines + "\r\n");
  EXPECT_EQ(answer.code, 431);
  EXPECT_EQ(answer.body, "the request has more than 256 headers\n");
}

TEST(HttpBoundsTest, BodyThatIsTooLongIsRefusedByItsLengthAlone) {
  HttpFixture f({.max_body_bytes = 1000});
  RawClient client = f.Connect();
  EXPECT_EQ(client.Ask(PostOf(1000) + std::string(1000, 'x')).code, 200);
  const RawAnswer answer = client.Ask(PostOf(1001));
  EXPECT_EQ(answer.code, 413);
  EXPECT_EQ(answer.body, "the request's body exceeds 1000 bytes\n");
}

TEST(HttpBoundsTest, ClientThatStillSendsItsBodyGetsToSeeTheRefusal) {
  HttpFixture f({.max_body_bytes = 1000});
  RawClient client = f.Connect();
  const RawAnswer answer = client.Ask(PostOf(8 << 20) + std::string(8 << 20, 'x'));
  EXPECT_EQ(answer.code, 413);
  EXPECT_TRUE(answer.whole);
  EXPECT_TRUE(client.AtEnd());
}

TEST(HttpBoundsTest, ChunksAreCountedAsTheyCome) {
  HttpFixture f({.max_body_bytes = 1000});
  const std::string head = "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
  const std::string chunk = "64\r\n" + std::string(100, 'x') + "\r\n";
  std::string ten;
  for (int i = 0; i < 10; ++i) ten += chunk;
  EXPECT_EQ(f.Connect().Ask(head + ten + "0\r\n\r\n").body.size(), 1000u);
  EXPECT_EQ(f.Connect().Ask(head + ten + "1\r\n").code, 413);
  EXPECT_EQ(f.Connect().Ask(head + "7fffffffffffffff\r\n").code, 413);
}

TEST(HttpBoundsTest, WhatStandsAroundChunksIsBoundedToo) {
  HttpFixture f({.max_header_bytes = 1024, .max_body_bytes = 1000});
  const std::string head = "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
  EXPECT_EQ(f.Connect().Ask(head + "1;a=" + std::string(2000, 'x')).code, 400);
  std::string chunks;
  for (int i = 0; i < 100; ++i) chunks += "1;a=" + std::string(500, 'x') + "\r\nx\r\n";
  EXPECT_EQ(f.Connect().Ask(head + chunks).code, 400);
}

TEST(HttpBoundsTest, BodiesThatAreReceivedAtOnceAreBoundedTogether) {
  HttpFixture f({.max_body_bytes = 1000, .max_bodies_bytes = 1500});
  RawClient first = f.Connect();
  ASSERT_TRUE(first.Send(PostOf(1000) + std::string(999, 'x')));
  EXPECT_EQ(f.Connect().Ask(kGetHello).code, 200);
  RawClient second = f.Connect();
  const RawAnswer refused = second.Ask(PostOf(1000) + std::string(999, 'x'));
  EXPECT_EQ(refused.code, 503);
  EXPECT_EQ(refused.Header("Retry-After"), "1");
  EXPECT_EQ(first.Ask("x").code, 200);
  EXPECT_EQ(f.Connect().Ask(PostOf(1000) + std::string(1000, 'x')).code, 200);
}

TEST(HttpBoundsTest, ConnectionsBeyondTheBoundAreTurnedAway) {
  HttpFixture f({.max_connections = 2});
  RawClient first = f.Connect();
  RawClient second = f.Connect();
  EXPECT_EQ(first.Ask(kGetHello).code, 200);
  EXPECT_EQ(second.Ask(kGetHello).code, 200);
  RawClient third = f.Connect();
  const RawAnswer refused = third.Read();
  EXPECT_EQ(refused.code, 503);
  EXPECT_EQ(refused.body, "all 2 connections are taken\n");
  EXPECT_EQ(refused.Header("Retry-After"), "1");
  EXPECT_TRUE(third.AtEnd());
  // A place is free again once another client has left.
  first.Close();
  EXPECT_EQ(second.Ask(kGetHello).code, 200);
  EXPECT_EQ(f.Connect().Ask(kGetHello).code, 200);
}

TEST(HttpBoundsTest, HeaderMustComeInTime) {
  HttpFixture f({.header_timeout = absl::Milliseconds(100)});
  RawClient silent = f.Connect();
  RawClient slow = f.Connect();
  ASSERT_TRUE(slow.Send("GET /hello HTTP/1.1\r\n"));
  const RawAnswer answer = slow.Read();
  EXPECT_EQ(answer.code, 408);
  EXPECT_EQ(answer.body, "the request's header did not come within 100ms\n");
  EXPECT_TRUE(silent.AtEnd());  // has asked for nothing: is told nothing
}

TEST(HttpBoundsTest, BodyMustComeInTime) {
  HttpFixture f({.body_timeout = absl::Milliseconds(100)});
  RawClient client = f.Connect();
  const RawAnswer answer = client.Ask(PostOf(10) + "12345");
  EXPECT_EQ(answer.code, 408);
  EXPECT_EQ(answer.body, "the request's body did not come within 100ms\n");
}

TEST(HttpBoundsTest, IdleConnectionIsClosedAfterAWhile) {
  HttpFixture f({.idle_timeout = absl::Milliseconds(100)});
  RawClient client = f.Connect();
  EXPECT_EQ(client.Ask(kGetHello).code, 200);
  EXPECT_TRUE(client.AtEnd());
}

TEST(HttpBoundsTest, AnswerMayTakeLongerThanAnyTimeout) {
  HttpFixture f({.header_timeout = absl::Milliseconds(50),
                 .body_timeout = absl::Milliseconds(50),
                 .idle_timeout = absl::Milliseconds(50),
                 .write_timeout = absl::Milliseconds(50)});
  RawClient client = f.Connect();
  ASSERT_TRUE(client.Send(kGetCall));
  const auto call = f.AwaitCall();
  EXPECT_FALSE(call->AwaitGone(absl::Milliseconds(300)));
  call->exchange->Send({.body = "late"});
  EXPECT_EQ(client.Read().body, "late");
}

TEST(HttpBoundsTest, FloodBehindARequestEndsIt) {
  HttpFixture f;
  RawClient client = f.Connect();
  ASSERT_TRUE(client.Send(kGetCall));
  const auto call = f.AwaitCall();
  const std::string flood(16 << 10, 'x');
  for (int i = 0; i < 64 && client.Send(flood); ++i) {
  }
  EXPECT_TRUE(call->AwaitGone());
}

}  // namespace
}  // namespace mea::testing
