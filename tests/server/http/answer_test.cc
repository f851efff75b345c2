// Requests that are answered at once, and what a connection does between them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/server/http/http_fixture.h"

namespace mea::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

TEST(HttpAnswerTest, HeadSaysAllThatAClientNeeds) {
  HttpFixture f;
  RawClient client = f.Connect();
  const RawAnswer answer = client.Ask(kGetHello);
  EXPECT_EQ(answer.code, 200);
  EXPECT_EQ(answer.body, "hello");
  EXPECT_EQ(answer.Header("Content-Length"), "5");
  EXPECT_EQ(answer.Header("Content-Type"), "text/plain; charset=utf-8");
  EXPECT_EQ(answer.Header("Server"), "mea/test");
  EXPECT_THAT(answer.Header("Date"),
              MatchesRegex("[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT"));
  EXPECT_EQ(answer.Header("Connection"), "");
  EXPECT_EQ(answer.Header("Access-Control-Allow-Origin"), "");
}

TEST(HttpAnswerTest, ConnectionServesOneRequestAfterTheOther) {
  HttpFixture f;
  RawClient client = f.Connect();
  for (int i = 0; i < 50; ++i) {
    const std::string body(static_cast<size_t>(i * 7), 'x');
    const RawAnswer answer = client.Ask(
        absl::StrCat("POST /echo HTTP/1.1\r\nContent-Length: ", body.size(), "\r\n\r\n", body));
    ASSERT_EQ(answer.code, 200);
    ASSERT_EQ(answer.body, body);
  }
}

TEST(HttpAnswerTest, ConnectionEndsWhereTheClientAsksForIt) {
  HttpFixture f;
  RawClient client = f.Connect();
  const RawAnswer answer = client.Ask("GET /hello HTTP/1.1\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(answer.body, "hello");
  EXPECT_EQ(answer.Header("Connection"), "close");
  EXPECT_TRUE(client.AtEnd());
}

TEST(HttpAnswerTest, Http10ConnectionLastsOnlyWhereTheClientAsksForIt) {
  HttpFixture f;
  RawClient once = f.Connect();
  EXPECT_EQ(once.Ask("GET /hello HTTP/1.0\r\n\r\n").Header("Connection"), "close");
  EXPECT_TRUE(once.AtEnd());
  RawClient more = f.Connect();
  const std::string request = "GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
  EXPECT_EQ(more.Ask(request).Header("Connection"), "keep-alive");
  EXPECT_EQ(more.Ask(request).body, "hello");
}

TEST(HttpAnswerTest, HeadIsGetWithoutTheBody) {
  HttpFixture f;
  RawClient client = f.Connect();
  ASSERT_TRUE(client.Send("HEAD /hello HTTP/1.1\r\n\r\n"));
  const RawAnswer answer = client.Read(/*head_only=*/true);
  EXPECT_EQ(answer.code, 200);
  EXPECT_EQ(answer.Header("Content-Length"), "5");
  EXPECT_EQ(client.Ask(kGetHello).body, "hello");  // nothing lies between the two
}

TEST(HttpAnswerTest, UnknownPathIsNotFoundAndTheConnectionGoesOn) {
  HttpFixture f;
  RawClient client = f.Connect();
  const RawAnswer answer = client.Ask("GET /nowhere?a=b HTTP/1.1\r\n\r\n");
  EXPECT_EQ(answer.code, 404);
  EXPECT_EQ(answer.body, "there is no /nowhere\n");
  EXPECT_EQ(client.Ask("GET /below/it/all?x HTTP/1.1\r\n\r\n").body, "/below/it/all");
}

TEST(HttpAnswerTest, WrongMethodIsToldTheRightOnes) {
  HttpFixture f;
  RawClient client = f.Connect();
  const RawAnswer answer = client.Ask("DELETE /call HTTP/1.1\r\n\r\n");
  EXPECT_EQ(answer.code, 405);
  EXPECT_EQ(answer.Header("Allow"), "GET, POST, HEAD, OPTIONS");
  EXPECT_EQ(answer.body, "/call takes GET, POST, HEAD, OPTIONS, not DELETE\n");
  EXPECT_EQ(client.Ask(kGetHello).code, 200);
}

TEST(HttpAnswerTest, ErrorsOfTheServerAreInTheFormThatTheRoomWants) {
  HttpOptions options;
  options.error_answer = [](int code, std::string_view message) {
    return HttpAnswer{.code = code,
                      .content_type = "application/json",
                      .body = absl::StrCat("{\"m\": \"", std::string(message), "\"}")};
  };
  HttpFixture f(std::move(options));
  const RawAnswer answer = f.Connect().Ask("GET /no\x80way HTTP/1.1\r\n\r\n");
  EXPECT_EQ(answer.code, 404);
  EXPECT_EQ(answer.Header("Content-Type"), "application/json");
  EXPECT_EQ(answer.body, "{\"m\": \"there is no /no?way\"}");
}

TEST(HttpAnswerTest, RequestReachesItsRouteAsItWasSent) {
  HttpFixture f;
  RawClient client = f.Connect();
  ASSERT_TRUE(client.Send(
      "POST /call?x=1&y=%20?z HTTP/1.1\r\nHost: here\r\nX-Mixed-Case:  padded value \r\n"
      "X-Twice: first\r\nX-Twice: second\r\nContent-Length: 3\r\n\r\nabc"));
  const auto call = f.AwaitCall();
  const HttpRequest& request = call->exchange->request();
  EXPECT_EQ(request.method, "POST");
  EXPECT_EQ(request.path, "/call");
  EXPECT_EQ(request.query, "x=1&y=%20?z");
  EXPECT_EQ(request.body, "abc");
  EXPECT_EQ(request.Header("x-mixed-case"), "padded value");
  EXPECT_EQ(request.Header("x-twice"), "first");
  EXPECT_EQ(request.Header("absent"), "");
  EXPECT_THAT(request.peer, MatchesRegex("127\\.0\\.0\\.1:[0-9]+"));
  call->exchange->Send({.code = 202, .headers = {{"X-Own", "value"}, {"Retry-After", "7"}}});
  const RawAnswer answer = client.Read();
  EXPECT_EQ(answer.code, 202);
  EXPECT_EQ(answer.Header("X-Own"), "value");
  EXPECT_EQ(answer.Header("Retry-After"), "7");
}

TEST(HttpAnswerTest, TargetOfAProxyIsTakenByItsPath) {
  HttpFixture f;
  RawClient client = f.Connect();
  EXPECT_EQ(client.Ask("GET http://host:80/below/a?b HTTP/1.1\r\n\r\n").body, "/below/a");
  EXPECT_EQ(client.Ask("GET http://host HTTP/1.1\r\n\r\n").body, "there is no /\n");
  EXPECT_EQ(client.Ask("GET http://host?below HTTP/1.1\r\n\r\n").body, "there is no /\n");
}

TEST(HttpAnswerTest, HeadersThatWouldBreakTheHeadAreLeftOut) {
  HttpFixture f;
  RawClient client = f.Connect();
  ASSERT_TRUE(client.Send(kGetCall));
  f.AwaitCall()->exchange->Send(
      {.body = "b",
       .headers = {{"X-Bad", "a\r\nX-Smuggled: 1"}, {"X-B\nad", "1"}, {"X-Good", "2"}}});
  const RawAnswer answer = client.Read();
  EXPECT_EQ(answer.body, "b");
  EXPECT_EQ(answer.Header("X-Good"), "2");
  EXPECT_THAT(answer.head, Not(HasSubstr("Smuggled")));
}

TEST(HttpAnswerTest, PipelinedRequestIsDroppedAndTheConnectionClosed) {
  HttpFixture f;
  RawClient client = f.Connect();
  const RawAnswer answer = client.Ask("GET /hello HTTP/1.1\r\n\r\nGET /below/b HTTP/1.1\r\n\r\n");
  EXPECT_EQ(answer.body, "hello");
  EXPECT_EQ(answer.Header("Connection"), "close");
  EXPECT_TRUE(client.AtEnd());
}

TEST(HttpAnswerTest, RequestThatComesDuringAnAnswerEndsTheConnectionAfterIt) {
  HttpFixture f;
  RawClient client = f.Connect();
  ASSERT_TRUE(client.Send(kGetCall));
  const auto call = f.AwaitCall();
  ASSERT_TRUE(client.Send(kGetHello));
  // The server has read it once it answers another connection: one thread serves both.
  EXPECT_EQ(f.Connect().Ask(kGetHello).body, "hello");
  call->exchange->Send({.body = "mine"});
  const RawAnswer answer = client.Read();
  EXPECT_EQ(answer.body, "mine");
  EXPECT_EQ(answer.Header("Connection"), "close");
  EXPECT_TRUE(client.AtEnd());
}

TEST(HttpAnswerTest, EmptyLinesBetweenRequestsAreNoRequests) {
  HttpFixture f;
  RawClient client = f.Connect();
  const std::string post = "POST /echo HTTP/1.1\r\nContent-Length: 2\r\n\r\nab\r\n";
  for (int i = 0; i < 3; ++i) ASSERT_EQ(client.Ask(post).body, "ab");
  ASSERT_TRUE(client.Send("\r\n\r"));
  ASSERT_TRUE(client.Send("\n"));
  EXPECT_EQ(client.Ask(kGetHello).body, "hello");
}

TEST(HttpAnswerTest, BodyInChunksIsPutTogetherHoweverItIsCut) {
  HttpFixture f;
  RawClient client = f.Connect();
  const std::string request =
      "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
      "5\r\nhello\r\n1;name=value\r\n,\r\n00a;q=\"x y\"\r\n new world\r\n0\r\nTrailer: x\r\n\r\n";
  EXPECT_EQ(client.Ask(request).body, "hello, new world");
  for (const char c : request) ASSERT_TRUE(client.Send({&c, 1}));
  EXPECT_EQ(client.Read().body, "hello, new world");
  const std::string empty = "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
  for (const char c : empty) ASSERT_TRUE(client.Send({&c, 1}));
  const RawAnswer answer = client.Read();
  EXPECT_EQ(answer.code, 200);
  EXPECT_EQ(answer.body, "");
}

TEST(HttpAnswerTest, ClientThatWaitsForItIsToldToContinue) {
  HttpFixture f;
  RawClient client = f.Connect();
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(
        client.Send("POST /echo HTTP/1.1\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"));
    EXPECT_EQ(client.ReadUntil("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    EXPECT_EQ(client.Ask("body").body, "body");
  }
  // One that has not waited is not told.
  EXPECT_EQ(client
                .Ask("POST /echo HTTP/1.1\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
                     "body")
                .body,
            "body");
  EXPECT_EQ(client.Ask("POST /echo HTTP/1.1\r\nContent-Length: 4\r\nExpect: more\r\n\r\n").code,
            417);
}

TEST(HttpAnswerTest, LargeBodiesGoThroughBothWays) {
  HttpFixture f;
  RawClient client = f.Connect();
  std::string body(3 << 20, '\0');
  for (size_t i = 0; i < body.size(); ++i) body[i] = static_cast<char>(i * 2654435761u >> 13);
  const RawAnswer answer = client.Ask(
      absl::StrCat("POST /echo HTTP/1.1\r\nContent-Length: ", body.size(), "\r\n\r\n", body));
  EXPECT_TRUE(answer.whole);
  EXPECT_TRUE(answer.body == body);
}

TEST(HttpAnswerTest, ClientThatHalfClosesAfterItsRequestGetsWhatIsAnsweredAtOnce) {
  HttpFixture f;
  RawClient client = f.Connect();
  ASSERT_TRUE(client.Send(kGetHello));
  client.HalfClose();
  EXPECT_EQ(client.Read().body, "hello");
  EXPECT_TRUE(client.AtEnd());
}

TEST(HttpAnswerTest, RequestThatIsDroppedIsAnsweredNonetheless) {
  HttpFixture f;
  RawClient client = f.Connect();
  auto started =
      HttpServer::Start({.listen = "127.0.0.1:0"},
                        {{"GET", "/", [](std::shared_ptr<HttpExchange>) { return nullptr; }}});
  ASSERT_TRUE(started.ok());
  RawClient other((*started)->address());
  EXPECT_EQ(other.Ask("GET / HTTP/1.1\r\n\r\n").code, 500);
}

}  // namespace
}  // namespace mea::testing
