// Answers that are made bit by bit, and clients that leave or do not read.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/server/http/http_fixture.h"

namespace mea::testing {
namespace {

// A stream with its client.
struct Stream {
  explicit Stream(HttpFixture& f, std::string_view request = kGetCall, int receive_buffer_bytes = 0)
      : client(f.Connect(receive_buffer_bytes)) {
    EXPECT_TRUE(client.Send(request));
    call = f.AwaitCall();
    call->exchange->Begin({.content_type = "text/event-stream"});
  }
  RawClient client;
  std::shared_ptr<TestCall> call;
};

TEST(HttpStreamTest, PiecesAreReadAsTheyAreWritten) {
  HttpFixture f;
  Stream s(f);
  const std::string head = s.client.ReadUntil("\r\n\r\n");  // before there is a piece
  EXPECT_THAT(head, ::testing::StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(head, ::testing::HasSubstr("\r\nTransfer-Encoding: chunked\r\n"));
  EXPECT_THAT(head, ::testing::HasSubstr("\r\nContent-Type: text/event-stream\r\n"));
  for (int i = 0; i < 20; ++i) {
    const std::string piece = absl::StrCat("data: ", i, "\n\n");
    s.call->exchange->Write(piece);
    EXPECT_EQ(s.client.ReadChunk(), piece);
    EXPECT_TRUE(s.call->AwaitWritten(i + 1));
  }
  s.call->exchange->End();
  EXPECT_EQ(s.client.ReadChunk(), "");
  EXPECT_EQ(s.client.Ask(kGetHello).body, "hello");  // the connection goes on
  EXPECT_FALSE(s.call->AwaitGone(absl::ZeroDuration()));
}

TEST(HttpStreamTest, HeadPieceAndEndMayComeAtOnce) {
  HttpFixture f;
  Stream s(f);
  s.call->exchange->Write("all");
  s.call->exchange->End();
  const RawAnswer answer = s.client.Read();
  EXPECT_EQ(answer.body, "all");
  EXPECT_TRUE(answer.whole);
}

TEST(HttpStreamTest, StreamWithoutAPieceIsWhole) {
  HttpFixture f;
  Stream s(f);
  s.call->exchange->End();
  EXPECT_TRUE(s.client.Read().whole);
}

TEST(HttpStreamTest, EmptyPieceIsWrittenAndEndsNothing) {
  HttpFixture f;
  Stream s(f);
  s.call->exchange->Write("");
  EXPECT_TRUE(s.call->AwaitWritten(1));
  s.call->exchange->Write("more");
  EXPECT_TRUE(s.call->AwaitWritten(2));
  s.call->exchange->End();
  EXPECT_EQ(s.client.Read().body, "more");
}

TEST(HttpStreamTest, Http10ClientReadsUntilTheConnectionEnds) {
  HttpFixture f;
  Stream s(f, "GET /call HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  s.call->exchange->Write("one ");
  EXPECT_TRUE(s.call->AwaitWritten(1));
  s.call->exchange->Write("two");
  s.call->exchange->End();
  const RawAnswer answer = s.client.Read();
  EXPECT_EQ(answer.Header("Connection"), "close");
  EXPECT_EQ(answer.Header("Transfer-Encoding"), "");
  EXPECT_EQ(answer.body, "one two");
}

TEST(HttpStreamTest, HeadRequestGetsTheHeadAndEndsTheCall) {
  HttpFixture f;
  Stream s(f, "HEAD /call HTTP/1.1\r\n\r\n");
  EXPECT_EQ(s.client.Read(/*head_only=*/true).code, 200);
  EXPECT_TRUE(s.call->AwaitGone());
  s.call->exchange->Write("nothing");
  s.call->exchange->End();
  EXPECT_EQ(s.client.Ask(kGetHello).body, "hello");
}

TEST(HttpStreamTest, AbortShowsThatTheAnswerIsNotWhole) {
  HttpFixture f;
  for (const char* version : {"1.1", "1.0"}) {
    Stream s(f, absl::StrCat("GET /call HTTP/", version, "\r\n\r\n"));
    s.call->exchange->Write("half");
    ASSERT_TRUE(s.call->AwaitWritten(1));
    s.call->exchange->Abort();
    EXPECT_FALSE(s.client.Read().whole) << version;
    EXPECT_FALSE(s.call->AwaitGone(absl::ZeroDuration()));  // it knows
  }
}

TEST(HttpStreamTest, AbandonedStreamIsBrokenOff) {
  HttpOptions options;
  HttpFixture f(std::move(options));
  auto started = HttpServer::Start({.listen = "127.0.0.1:0"},
                                   {{"GET", "/", [](std::shared_ptr<HttpExchange> exchange) {
                                       exchange->Begin({});
                                       return nullptr;
                                     }}});
  ASSERT_TRUE(started.ok());
  RawClient client((*started)->address());
  EXPECT_FALSE(client.Ask("GET / HTTP/1.1\r\n\r\n").whole);
}

TEST(HttpStreamTest, ClientThatLeavesIsNoticedBetweenPieces) {
  HttpFixture f;
  for (const bool reset : {false, true}) {
    Stream s(f);
    s.call->exchange->Write("first");
    EXPECT_EQ(s.client.Read(/*head_only=*/true).code, 200);
    EXPECT_EQ(s.client.ReadChunk(), "first");
    reset ? s.client.Reset() : s.client.Close();
    EXPECT_TRUE(s.call->AwaitGone());
    s.call->exchange->Write("second");  // does nothing
    s.call->exchange->End();
  }
}

TEST(HttpStreamTest, ClientThatLeavesIsNoticedBeforeTheHead) {
  HttpFixture f;
  RawClient client = f.Connect();
  ASSERT_TRUE(client.Send(kGetCall));
  const auto call = f.AwaitCall();
  client.Close();
  EXPECT_TRUE(call->AwaitGone());
  call->exchange->Send({.body = "nobody reads it"});
}

TEST(HttpStreamTest, ClientThatClosesItsSideIsTakenToHaveLeft) {
  HttpFixture f;
  Stream s(f);
  EXPECT_EQ(s.client.Read(/*head_only=*/true).code, 200);
  s.client.HalfClose();
  EXPECT_TRUE(s.call->AwaitGone());
}

TEST(HttpStreamTest, PieceIsWrittenOnceTheClientReads) {
  HttpFixture f;
  Stream s(f, kGetCall, /*receive_buffer_bytes=*/4096);
  const std::string piece(32 << 20, 'x');  // more than the kernel takes
  s.call->exchange->Write(piece);
  EXPECT_FALSE(s.call->AwaitWritten(1, absl::Milliseconds(200)));
  EXPECT_EQ(f.Connect().Ask(kGetHello).body, "hello");  // nobody else waits
  EXPECT_EQ(s.client.Read(/*head_only=*/true).code, 200);
  EXPECT_TRUE(s.client.ReadChunk() == piece);
  EXPECT_TRUE(s.call->AwaitWritten(1));
  s.call->exchange->End();
  EXPECT_EQ(s.client.ReadChunk(), "");
}

TEST(HttpStreamTest, ClientThatTakesNothingIsGivenUp) {
  HttpFixture f({.write_timeout = absl::Milliseconds(200)});
  Stream s(f, kGetCall, /*receive_buffer_bytes=*/4096);
  s.call->exchange->Write(std::string(32 << 20, 'x'));
  EXPECT_TRUE(s.call->AwaitGone());
  EXPECT_FALSE(s.call->AwaitWritten(1, absl::ZeroDuration()));
}

TEST(HttpStreamTest, ExchangesMayBeUsedOnAnyThreadAtAnyTime) {
  for (const int num_threads : {1, 3}) {
    HttpFixture f({.num_threads = num_threads});
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&f, t] {
        for (int i = 0; i < 50; ++i) {
          RawClient client = f.Connect();
          ASSERT_TRUE(client.Send(kGetCall));
          const auto call = f.AwaitCall();  // this thread's, or another's
          const auto exchange = call->exchange;
          std::thread other([exchange, i] {
            if (i % 3 == 0) exchange->Abort();
            if (i % 3 == 1) exchange->Send({.body = "sent"});
          });
          exchange->Begin({});
          for (int n = 0; n < 5; ++n) exchange->Write("piece");
          exchange->End();
          if ((i + t) % 5 == 0) {
            client.Close();
          } else {
            const RawAnswer answer = client.Read();
            EXPECT_TRUE(!answer.whole || answer.body == "sent" || answer.body.size() == 25u)
                << answer.body;
          }
          other.join();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
}

}  // namespace
}  // namespace mea::testing
