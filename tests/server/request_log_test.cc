// What the log says of requests and of the server's own state: once per event, and no text.
#include "server/request_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/clock.h"
#include "server/field_error.h"
#include "tests/server/http/http_fixture.h"
#include "tests/server/server_fixture.h"

namespace mea::testing {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::Not;

std::vector<std::string> Containing(const std::vector<std::string>& lines,
                                    const std::string& what) {
  std::vector<std::string> found;
  std::copy_if(lines.begin(), lines.end(), std::back_inserter(found),
               [&](const std::string& line) { return line.find(what) != line.npos; });
  return found;
}

v1::GenerateRequest Named(const std::string& id, const std::string& text = "hey") {
  v1::GenerateRequest request = TextRequest(text);
  request.set_request_id(id);
  return request;
}

TEST(RequestLogTest, ARequestIsAcceptedAndFinishedOnce) {
  ServerFixture f;
  f.engine.SetAnswer("hello");
  EXPECT_TRUE(f.Stream(Named("one")).status.ok());
  EXPECT_TRUE(f.Try(Named("two")).ok());
  const auto lines = f.StopAndReadLog();
  for (const char* id : {"one", "two"}) {
    EXPECT_THAT(
        Containing(lines, std::string("id=") + id),
        ElementsAre(
            HasSubstr(" debug request accepted id=" + std::string(id) +
                      " prompt_tokens=3 max_tokens=100 priority=0"),
            MatchesRegex(".* trace request scheduled id=.* queue_ms=[0-9.]+"),
            MatchesRegex(".* trace request first token id=.* ttft_ms=[0-9.]+"),
            MatchesRegex(".* info request finished id=.* status=OK reason=stop prompt_tokens=3 "
                         "completion_tokens=6 queue_ms=[0-9.]+ ttft_ms=[0-9.]+ "
                         "total_ms=[0-9.]+ kv_bytes=1024")));
  }
}

TEST(RequestLogTest, WhatIsSaidOfAClientsOwnWordsIsNotLogged) {
  ServerFixture f;
  RequestLog log(*f.log);
  const absl::Status template_says = absl::InvalidArgumentError("no answer to 'quince'");
  for (const char* field : {"chat.messages", "chat.tools[0]", "structured_output.regex"}) {
    log.Refused({.id = "one"}, WithField(template_says, field));
  }
  log.Refused({.id = "two"}, FieldError("sampling.top_p", "9 is outside 0..1"));
  const auto lines = f.StopAndReadLog();
  EXPECT_THAT(Containing(lines, "quince"), IsEmpty());
  EXPECT_THAT(Containing(lines, "field=chat.messages"), ElementsAre(HasSubstr("id=one")));
  EXPECT_THAT(Containing(lines, "id=two"), ElementsAre(HasSubstr("9 is outside")));
}

TEST(RequestLogTest, ABodyThatCannotBeReadIsLoggedByItsFieldAlone) {
  ServerFixture f;
  for (const char* body :
       {R"({"messages": "a quince"})", R"({"messages": ["a quince"]})",
        R"({"messages": [{"role": {"a": "quince"}}]})", R"({"prompt": {"a": "quince"}})",
        R"({"prompt": "a", "stop": {"a": "quince"}})",
        R"({"prompt": "a", "guided_choice": {"a": "quince"}})",
        R"({"prompt": "a", "logit_bias": {"quince": 1}})", R"({"input": {"a": "quince"}})"}) {
    const std::string_view text = body;
    const std::string path = absl::StartsWith(body, "{\"messages") ? "/v1/chat/completions"
                             : absl::StartsWith(body, "{\"input")  ? "/v1/responses"
                                                                   : "/v1/completions";
    const RawAnswer answer =
        RawClient(f.server->http_address())
            .Ask(absl::StrCat("POST ", path, " HTTP/1.1\r\nHost: a\r\n",
                              "Content-Length: ", text.size(), "\r\n\r\n", body));
    EXPECT_EQ(answer.code, 400) << body;
    EXPECT_THAT(answer.body, HasSubstr("quince")) << "the client is told";
  }
  const auto lines = f.StopAndReadLog();
  EXPECT_EQ(Containing(lines, "request refused").size(), 8u);
  EXPECT_EQ(Containing(lines, " field=").size(), 8u);
  EXPECT_THAT(Containing(lines, "quince"), IsEmpty());
}

TEST(RequestLogTest, NoLineHoldsTextOfPromptOrAnswer) {
  ServerFixture f;
  f.engine.SetAnswer("quince");
  v1::GenerateRequest request = Named("a", "medlar");
  EXPECT_TRUE(f.Stream(request).status.ok());
  request.mutable_stopping()->add_stop("quince");
  EXPECT_TRUE(f.Stream(request).status.ok());
  request.mutable_sampling()->set_top_k(-1);
  EXPECT_FALSE(f.Stream(request).status.ok());
  const auto lines = f.StopAndReadLog();
  EXPECT_EQ(Containing(lines, "id=a ").size(), 9u);
  EXPECT_THAT(lines, Not(Contains(AnyOf(HasSubstr("quince"), HasSubstr("medlar")))));
}

TEST(RequestLogTest, ARefusalIsOneLineWithItsReason) {
  ServerFixture f({.max_context = 64});
  v1::GenerateRequest bad = Named("bad");
  bad.mutable_sampling()->set_top_k(-1);
  EXPECT_FALSE(f.Try(bad).ok());
  EXPECT_FALSE(f.Try(Named("long", std::string(64, 'x'))).ok());  // found by a text worker
  EXPECT_FALSE(f.Try(Named("x\ny")).ok());
  const auto lines = f.StopAndReadLog();
  EXPECT_THAT(
      Containing(lines, "request"),
      ElementsAre(
          HasSubstr(" info request refused id=bad status=INVALID_ARGUMENT "
                    "message=\"sampling.top_k -1 is outside 0..258\""),
          HasSubstr(" info request refused id=long status=INVALID_ARGUMENT message="),
          HasSubstr(" info request refused id=\"x\\ny\" status=INVALID_ARGUMENT message=")));
}

TEST(RequestLogTest, ARequestWithoutAnIdIsLoggedByTheOneItWasGiven) {
  ServerFixture f;
  EXPECT_FALSE(f.Try(TextRequest("")).ok());
  EXPECT_THAT(Containing(f.StopAndReadLog(), "refused"), ElementsAre(HasSubstr("id=req-")));
}

TEST(RequestLogTest, OverloadWarnsOncePerPeriodAndTellsTheRestAtDebug) {
  LogLines lines;
  {
    Log log({.level = LogLevel::kDebug}, lines.Writer());
    RequestLog requests(log);
    for (const char* id : {"a", "b", "c"}) {
      requests.Refused({.id = id}, absl::ResourceExhaustedError("the queue is full"));
    }
  }
  EXPECT_THAT(lines.lines(),
              ElementsAre(HasSubstr(" warning request refused id=a status=RESOURCE_EXHAUSTED "
                                    "message=\"the queue is full\" refused=1"),
                          HasSubstr(" debug request refused id=b"),
                          HasSubstr(" debug request refused id=c")));
}

TEST(RequestLogTest, ACancelledRequestIsFinishedOnce) {
  ServerFixture f({.automatic = false});
  const auto context = f.Context();
  const auto reader = f.inference->GenerateStream(context.get(), Named("gone"));
  ASSERT_TRUE(f.engine.AwaitSubmitted(1));
  v1::AbortRequest abort;
  abort.set_request_id("gone");
  v1::AbortResponse response;
  ASSERT_TRUE(f.control->Abort(f.Context().get(), abort, &response).ok());
  f.engine.Step();
  EXPECT_EQ(ReadAll(*reader).status.error_code(), grpc::StatusCode::CANCELLED);
  const auto lines = f.StopAndReadLog();
  EXPECT_THAT(Containing(lines, "refused"), IsEmpty());
  EXPECT_THAT(Containing(lines, "finished"),
              ElementsAre(AllOf(HasSubstr(" info request finished id=gone status=CANCELLED "
                                          "message=\"aborted by Control.Abort\" prompt_tokens=3 "
                                          "completion_tokens=0"),
                                Not(HasSubstr("reason=")))));
}

TEST(RequestLogTest, AnEngineThatFailsIsAnError) {
  ServerFixture f({.automatic = false});
  const auto context = f.Context();
  const auto reader = f.inference->GenerateStream(context.get(), Named("nan"));
  ASSERT_TRUE(f.engine.AwaitSubmitted(1));
  f.engine.Break(absl::InternalError("the device is gone"));
  f.engine.Step();
  EXPECT_EQ(ReadAll(*reader).status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_THAT(
      Containing(f.StopAndReadLog(), " error "),
      ElementsAre(HasSubstr("engine failed"), HasSubstr("request finished id=nan status=INTERNAL "
                                                        "message=\"the device is gone\"")));
}

TEST(RequestLogTest, TheServersOwnStateIsLogged) {
  ServerFixture f;
  const std::string listen = f.server->listen_address();
  f.server->Drain(Now() + absl::Seconds(20));
  EXPECT_THAT(f.StopAndReadLog(),
              ElementsAre(HasSubstr(" info ready model=fake listen=" + listen + " admin="),
                          MatchesRegex(".* info drain begins in_flight=0 limit_ms=.*"),
                          MatchesRegex(".* info drain ended took_ms=.*")));
}

TEST(RequestLogTest, ATraceparentPutsItsTraceIdIntoEveryLine) {
  const std::string trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
  const std::string parent = "-00f067aa0ba902b7";
  const std::vector<std::pair<std::string, bool>> headers = {
      {"00-" + trace_id + parent + "-01", true},
      {"cc-" + trace_id + parent + "-01-more", true},  // of a later version
      {"00-" + trace_id + parent + "-01-more", false},
      {"ff-" + trace_id + parent + "-01", false},
      {"00-" + trace_id + "-0000000000000000-01", false},
      {"00-" + std::string(32, '0') + parent + "-01", false},
      {"00-4BF92F3577B34DA6A3CE929D0E0E4736" + parent + "-01", false},
      {"00-" + trace_id + parent, false},
      {"nonsense", false},
      {"", false}};
  for (const auto& [header, traced] : headers) {
    ServerFixture f;
    const auto context = f.Context();
    context->AddMetadata("traceparent", header);
    v1::GenerateResponse response;
    EXPECT_TRUE(f.inference->Generate(context.get(), Named("a"), &response).ok()) << header;
    const auto lines = Containing(f.StopAndReadLog(), "id=a");
    EXPECT_EQ(lines.size(), 4u) << header;
    EXPECT_EQ(Containing(lines, " id=a trace_id=" + trace_id + " ").size(), traced ? 4u : 0u)
        << header;
    EXPECT_EQ(Containing(lines, "trace_id").size(), traced ? 4u : 0u) << header;
  }
}

}  // namespace
}  // namespace mea::testing
