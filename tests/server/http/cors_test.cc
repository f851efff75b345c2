// Pages of other origins.
#include <gtest/gtest.h>

#include "tests/server/http/http_fixture.h"

namespace mea::testing {
namespace {

constexpr char kGetFromPage[] = "GET /hello HTTP/1.1\r\nOrigin: https://a.example\r\n\r\n";
constexpr char kPreflight[] =
    "OPTIONS /echo HTTP/1.1\r\nOrigin: https://a.example\r\n"
    "Access-Control-Request-Method: POST\r\n"
    "Access-Control-Request-Headers: content-type,x-own\r\n\r\n";

TEST(HttpCorsTest, NoPageMayReadAnswersUnlessItsOriginIsNamed) {
  HttpFixture f;
  RawClient client = f.Connect();
  EXPECT_EQ(client.Ask(kGetFromPage).Header("Access-Control-Allow-Origin"), "");
  const RawAnswer options = client.Ask(kPreflight);
  EXPECT_EQ(options.code, 204);
  EXPECT_EQ(options.Header("Allow"), "POST, OPTIONS");
  EXPECT_EQ(options.Header("Access-Control-Allow-Origin"), "");
  EXPECT_EQ(options.Header("Access-Control-Allow-Methods"), "");
}

TEST(HttpCorsTest, NamedOriginIsAllowedAndCachesAreToldThatItMatters) {
  HttpFixture f({.cors_origins = {"https://b.example", "https://a.example"}});
  RawClient client = f.Connect();
  const RawAnswer answer = client.Ask(kGetFromPage);
  EXPECT_EQ(answer.Header("Access-Control-Allow-Origin"), "https://a.example");
  EXPECT_EQ(answer.Header("Vary"), "Origin");
  const RawAnswer other =
      client.Ask("GET /hello HTTP/1.1\r\nOrigin: https://a.example.evil\r\n\r\n");
  EXPECT_EQ(other.code, 200);
  EXPECT_EQ(other.Header("Access-Control-Allow-Origin"), "");
  EXPECT_EQ(other.Header("Vary"), "Origin");
}

TEST(HttpCorsTest, PreflightNamesMethodsAndHeaders) {
  HttpFixture f({.cors_origins = {"https://a.example"}});
  RawClient client = f.Connect();
  const RawAnswer answer = client.Ask(kPreflight);
  EXPECT_EQ(answer.code, 204);
  EXPECT_EQ(answer.Header("Access-Control-Allow-Origin"), "https://a.example");
  EXPECT_EQ(answer.Header("Access-Control-Allow-Methods"), "POST, OPTIONS");
  EXPECT_EQ(answer.Header("Access-Control-Allow-Headers"), "content-type,x-own");
  EXPECT_EQ(answer.Header("Content-Length"), "");
  EXPECT_EQ(client.Ask(kGetFromPage).body, "hello");
}

TEST(HttpCorsTest, StarAllowsEveryOriginAndErrorsAreReadableToo) {
  HttpFixture f({.max_body_bytes = 10, .cors_origins = {"*"}});
  RawClient client = f.Connect();
  EXPECT_EQ(client.Ask(kGetFromPage).Header("Access-Control-Allow-Origin"), "*");
  EXPECT_EQ(client.Ask("GET /none HTTP/1.1\r\nOrigin: https://a.example\r\n\r\n")
                .Header("Access-Control-Allow-Origin"),
            "*");
  const RawAnswer large =
      client.Ask("POST /echo HTTP/1.1\r\nOrigin: https://a.example\r\nContent-Length: 11\r\n\r\n");
  EXPECT_EQ(large.code, 413);
  EXPECT_EQ(large.Header("Access-Control-Allow-Origin"), "*");
}

TEST(HttpCorsTest, StreamsCarryTheSameHeaders) {
  HttpFixture f({.cors_origins = {"https://a.example"}});
  RawClient client = f.Connect();
  ASSERT_TRUE(client.Send("GET /call HTTP/1.1\r\nOrigin: https://a.example\r\n\r\n"));
  const auto call = f.AwaitCall();
  call->exchange->Begin({});
  call->exchange->End();
  EXPECT_EQ(client.Read().Header("Access-Control-Allow-Origin"), "https://a.example");
}

// A browser sends a POST of plain text without asking first, wherever the page comes from.
TEST(HttpCorsTest, PagesOfOtherOriginsMayNotPost) {
  constexpr char kPost[] =
      "POST /echo HTTP/1.1\r\nHost: h:1\r\nOrigin: https://%s\r\n"
      "Content-Length: 2\r\n\r\nab";
  const auto post = [&](std::vector<std::string> origins, std::string origin) {
    HttpFixture f({.cors_origins = std::move(origins)});
    std::string request = kPost;
    request.replace(request.find("%s"), 2, origin);
    return f.Connect().Ask(request).code;
  };
  EXPECT_EQ(post({}, "a.example"), 403);
  EXPECT_EQ(post({"https://b.example"}, "a.example"), 403);
  EXPECT_EQ(post({"https://a.example"}, "a.example"), 200);
  EXPECT_EQ(post({"*"}, "a.example"), 200);
  EXPECT_EQ(post({}, "h:1"), 200);  // its own
}

TEST(HttpCorsTest, OptionsOfNoPathIsNotFound) {
  HttpFixture f({.cors_origins = {"*"}});
  RawClient client = f.Connect();
  EXPECT_EQ(client.Ask("OPTIONS /none HTTP/1.1\r\n\r\n").code, 404);
  EXPECT_EQ(client.Ask("OPTIONS * HTTP/1.1\r\n\r\n").code, 204);
}

}  // namespace
}  // namespace mea::testing
