// The page at "/" and what it asks for.
#include "server/page/page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/server/http/http_fixture.h"
#include "tests/server/server_fixture.h"

namespace mea::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using Json = nlohmann::json;

Json StatusOf(const ServerFixture& f, const std::string& query = "", std::string* head = nullptr) {
  return Json::parse(f.HttpGet("/status.json" + query, head));
}

TEST(PageTest, IsServedOnBothPortsUnderAPolicyThatAllowsOnlyItself) {
  const ServerFixture f;
  for (const std::string& port : {f.server->http_address(), f.server->admin_address()}) {
    std::string head;
    const std::string page = f.HttpGet("/", &head, port);
    EXPECT_THAT(head, StartsWith("HTTP/1.1 200"));
    EXPECT_THAT(head, HasSubstr("Content-Type: text/html; charset=utf-8"));
    EXPECT_THAT(head, HasSubstr("X-Content-Type-Options: nosniff"));
    EXPECT_THAT(head, HasSubstr("Cache-Control: no-cache"));
    EXPECT_THAT(head, HasSubstr("Content-Security-Policy: " + ContentPolicy(page)));
    EXPECT_THAT(page, StartsWith("<!doctype html>"));
  }
}

TEST(PageTest, ThePolicyNamesTheHashesOfScriptAndStyle) {
  const std::string policy =
      ContentPolicy("<html><style>a{}</style><script type=\"module\">b</script></html>");
  EXPECT_THAT(policy, StartsWith("default-src 'none'; "));
  EXPECT_THAT(policy, HasSubstr("script-src 'sha256-PiPoFgA5WUoziU9lZOGxNIu9egCI1CxKy3PurtWcAJ0="
                                "'; style-src "
                                "'sha256-X1RutGBrXCt9KkSaXMK7tHftWiRscFHOhxsS8tv8hBk='; "));
  EXPECT_THAT(policy, AllOf(HasSubstr("frame-ancestors 'none'"), HasSubstr("form-action 'none'"),
                            HasSubstr("base-uri 'none'"), Not(HasSubstr("unsafe"))));
}

// Whatever a model or a client wrote reaches the document as text.
TEST(PageTest, TheDocumentTakesNothingFromOutsideAndMakesNoMarkupOfText) {
  const ServerFixture f;
  std::string page = f.HttpGet("/");
  for (const char* name : {"http://www.w3.org/2000/svg'", "http://www.w3.org/2000/svg\""}) {
    for (size_t at; (at = page.find(name)) != page.npos;) page.erase(at, strlen(name));
  }
  for (const char* way : {"http:", "https:", "src=", "@import", "url(", "innerHTML", "outerHTML",
                          "insertAdjacentHTML", "document.write", "eval(", "localStorage",
                          "sessionStorage", "document.cookie"}) {
    EXPECT_THAT(page, Not(HasSubstr(way)));
  }
  EXPECT_THAT(page, AllOf(Not(HasSubstr("/* style */")), Not(HasSubstr("/* script */"))));
}

TEST(PageTest, ABrowserThatHasItIsNotSentItAgain) {
  const ServerFixture f;
  RawClient client(f.server->http_address());
  const RawAnswer first = client.Ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  const std::string etag = first.Header("ETag");
  ASSERT_EQ(etag.size(), 66u);
  const auto again = [&](const std::string& known) {
    return client.Ask(
        absl::StrCat("GET / HTTP/1.1\r\nHost: x\r\nIf-None-Match: ", known, "\r\n\r\n"));
  };
  const RawAnswer same = again(etag);
  EXPECT_EQ(same.code, 304);
  EXPECT_EQ(same.body, "");
  EXPECT_EQ(same.Header("ETag"), etag);
  const RawAnswer other = again("\"old\"");
  EXPECT_EQ(other.code, 200);
  EXPECT_EQ(other.body, first.body);
}

TEST(StatusJsonTest, TellsCacheLoadAndWhoIsInFlight) {
  ServerFixture f({.max_num_seqs = 1, .automatic = false});
  const auto context = f.Context();
  v1::GenerateRequest request = TextRequest("hey");
  request.set_request_id("first");
  const auto reader = f.inference->GenerateStream(context.get(), request);
  ASSERT_TRUE(f.engine.AwaitSubmitted(1));
  const auto other_context = f.Context();
  request.set_request_id("second");
  const auto other = f.inference->GenerateStream(other_context.get(), request);
  ASSERT_TRUE(f.engine.AwaitSubmitted(2));
  f.engine.Step();

  std::string head;
  const Json status = StatusOf(f, "", &head);
  EXPECT_THAT(
      head, AllOf(HasSubstr("Content-Type: application/json"), HasSubstr("Cache-Control: no-store"),
                  HasSubstr("X-Content-Type-Options: nosniff")));
  EXPECT_EQ(status["model"]["name"], "fake");
  EXPECT_EQ(status["model"]["family"], "llama");
  EXPECT_EQ(status["model"]["stored_heads"], 8);
  EXPECT_EQ(status["model"]["attended_heads"], 16);
  EXPECT_EQ(status["model"]["chats"], false);
  EXPECT_EQ(status["server"]["state"], "SERVING");
  EXPECT_EQ(status["server"]["has_api"], false) << "of the admin port";
  EXPECT_EQ(status["cache"]["bytes"], 16 * 64);
  EXPECT_EQ(status["cache"]["bytes_uncompressed"], 16 * 128);
  EXPECT_EQ(status["cache"]["bytes_total"], 100 * 16 * 64);
  EXPECT_EQ(status["memory"]["weights"], 1000);
  EXPECT_EQ(status["memory"]["graphs"], 70);
  EXPECT_EQ(status["load"]["running"], 1);
  EXPECT_EQ(status["load"]["waiting"], 1);
  ASSERT_EQ(status["sequences"].size(), 2u);
  EXPECT_EQ(status["sequences"][0], Json({{"id", "first"},
                                          {"completion", 0},
                                          {"running", true},
                                          {"prompt_tokens", 3},
                                          {"output_tokens", 1},
                                          {"bytes", 16 * 64},
                                          {"bytes_uncompressed", 16 * 128}}));
  EXPECT_EQ(status["sequences"][1]["running"], false);
  f.engine.Step(20);
  EXPECT_TRUE(ReadAll(*reader).status.ok());
  EXPECT_TRUE(ReadAll(*other).status.ok());
}

TEST(StatusJsonTest, BucketsCountEachValueOnce) {
  ServerFixture f;
  ASSERT_TRUE(f.Try(TextRequest("hey")).ok());
  const Json status = StatusOf(f);
  for (const char* name : {"time_to_first_token", "inter_token_latency"}) {
    const Json& buckets = status[name];
    EXPECT_EQ(buckets["counts"].size(), buckets["bounds"].size() + 1) << name;
    int64_t total = 0;
    for (const Json& count : buckets["counts"]) total += count.get<int64_t>();
    EXPECT_EQ(total, name[0] == 't' ? 1 : 5) << name << ": one for each token after the first";
  }
}

TEST(StatusJsonTest, ANameStaysTextWhateverItHolds) {
  const ServerFixture f({}, false, {.model_name = "</script><img onerror=alert(1)>\"\n\xff"});
  EXPECT_EQ(StatusOf(f)["model"]["name"], "</script><img onerror=alert(1)>\"\n\xef\xbf\xbd");
  EXPECT_THAT(f.HttpGet("/"), Not(HasSubstr("onerror")));
}

TEST(StatusJsonTest, AnIdIsQuotedAndCut) {
  ServerFixture f({.automatic = false});
  v1::GenerateRequest request = TextRequest("hey");
  request.set_request_id("<b>\"" + std::string(100, 'x'));
  const auto context = f.Context();
  const auto reader = f.inference->GenerateStream(context.get(), request);
  ASSERT_TRUE(f.engine.AwaitSubmitted(1));
  EXPECT_EQ(StatusOf(f)["sequences"][0]["id"], "<b>\"" + std::string(60, 'x'));
  f.engine.Step(20);
  EXPECT_TRUE(ReadAll(*reader).status.ok());
}

TEST(StatusJsonTest, SamplesAreAskedForByTheLastOneThatIsKnown) {
  const ServerFixture f;
  const auto first_after = [&](const std::string& query) {
    return StatusOf(f, query)["history"]["first"].get<int64_t>();
  };
  for (int i = 0; i < 4000 && StatusOf(f)["history"]["samples"].empty(); ++i) {
    absl::SleepFor(absl::Milliseconds(5));
  }
  EXPECT_EQ(first_after("?after=1"), 2);
  EXPECT_GE(first_after("?after=9223372036854775807"), 2);
  for (const char* query : {"", "?after=0", "?after=", "?after=x", "?after=-5", "?before=7"}) {
    EXPECT_EQ(first_after(query), 1) << query;
  }
}

// The answer has a bound, however much happens.
TEST(LoadHistoryTest, KeepsTheLastTenMinutes) {
  LoadHistory history;
  for (int s = 0; s <= 700; ++s) history.Look({}, absl::UnixEpoch() + absl::Seconds(s));
  const LoadHistory::Part all = history.After(0);
  EXPECT_EQ(all.first, 101);
  ASSERT_EQ(all.samples.size(), 600u);
  EXPECT_EQ(all.samples.back().time, absl::UnixEpoch() + absl::Seconds(700));
  const LoadHistory::Part newest = history.After(698);
  EXPECT_EQ(newest.first, 699);
  EXPECT_EQ(newest.samples.size(), 2u);
  EXPECT_EQ(history.After(700).samples.size(), 0u);
  EXPECT_EQ(history.After(5000).first, 701) << "of an earlier server";
}

TEST(LoadHistoryTest, ASecondIsRememberedByItsPeak) {
  LoadHistory history;
  for (int i = 0; i <= 8; ++i) {
    EngineStats stats;
    stats.kv.used_bytes = i == 2 ? 500 : i;
    stats.kv.used_bytes_uncompressed = 2 * stats.kv.used_bytes;
    stats.num_running = i == 2 ? 3 : 1;
    stats.generation_tokens = 10 * i;
    history.Look(stats, absl::UnixEpoch() + i * absl::Milliseconds(250));
  }
  const std::vector<LoadSample> samples = history.After(0).samples;
  ASSERT_EQ(samples.size(), 2u);
  EXPECT_EQ(samples[0].used_bytes, 500);
  EXPECT_EQ(samples[0].used_bytes_uncompressed, 1000);
  EXPECT_EQ(samples[0].num_running, 3);
  EXPECT_EQ(samples[0].generation_tokens, 40);
  EXPECT_EQ(samples[1].used_bytes, 8);
  EXPECT_EQ(samples[1].generation_tokens, 80);
}

}  // namespace
}  // namespace mea::testing
