// What a collector of traces is told of requests.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/clock.h"
#include "server/access/key_file.h"
#include "server/limits.h"
#include "tests/server/access/test_certificates.h"
#include "tests/server/server_fixture.h"
#include "tests/server/trace_collector.h"

namespace mea::testing {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::IsSupersetOf;
using ::testing::Key;
using ::testing::Not;
using ::testing::Pair;
using Json = nlohmann::json;
using OtlpSpan = TraceCollector::Span;
using OtlpStatus = opentelemetry::proto::trace::v1::Status;

constexpr char kTraceId[] = "4bf92f3577b34da6a3ce929d0e0e4736";
constexpr char kCallersSpan[] = "00f067aa0ba902b7";

std::string Traceparent(const std::string& flags = "01") {
  return absl::StrCat("00-", kTraceId, "-", kCallersSpan, "-", flags);
}

// The exporter outlives the server, and ends before the collector.
struct TraceWorld {
  explicit TraceWorld(TraceSampler sampler, ServerOptions with) : options(std::move(with)) {
    options.spans = &exporter;
    options.trace_sampler = sampler;
  }

  TraceCollector collector;
  Log exporter_log{{.level = LogLevel::kOff}};
  SpanExporter exporter{collector.Options(), exporter_log};
  ServerOptions options;
};

class TracedServer : public TraceWorld, public ServerFixture {
 public:
  explicit TracedServer(FakeEngineOptions engine_options = {}, TraceSampler sampler = {},
                        ServerOptions with = {})
      : TraceWorld(sampler, std::move(with)),
        ServerFixture(std::move(engine_options), false, options) {}

  std::unique_ptr<grpc::ClientContext> Traced(const std::string& flags = "01") const {
    auto context = Context();
    context->AddMetadata("traceparent", Traceparent(flags));
    return context;
  }
  int Post(const std::string& path, const Json& body) const {
    httplib::Client client(absl::StrCat("http://", server->http_address()));
    const auto result = client.Post(path, {{"traceparent", Traceparent()}, {"tracestate", "a=1"}},
                                    body.dump(), "application/json");
    return result ? result->status : 0;
  }
};

std::string Hex(const std::string& bytes) { return absl::BytesToHexString(bytes); }

// The number of spans of a request that was answered.
constexpr int kWhole = 4;

TEST(RequestTracesTest, ARequestIsAChildOfItsCallersSpan) {
  TracedServer f;
  const int64_t before = absl::ToUnixNanos(ToWallClock(Now()));
  const auto context = f.Traced();
  context->AddMetadata("tracestate", "vendor=1,other=x");
  v1::GenerateResponse response;
  ASSERT_TRUE(f.inference->Generate(context.get(), TextRequest("hey"), &response).ok());
  const int64_t after = absl::ToUnixNanos(ToWallClock(Now())) + 1;
  const std::vector<OtlpSpan> spans = f.collector.AwaitSpans(kWhole);
  ASSERT_EQ(spans.size(), kWhole);
  for (const OtlpSpan& span : spans) {
    EXPECT_EQ(Hex(span.trace_id()), kTraceId);
    EXPECT_EQ(span.span_id().size(), 8u);
    EXPECT_EQ(span.trace_state(), "vendor=1,other=x");
  }
  const OtlpSpan& request = spans[0];
  EXPECT_EQ(request.name(), "llm_request");
  EXPECT_EQ(request.kind(), OtlpSpan::SPAN_KIND_SERVER);
  EXPECT_EQ(Hex(request.parent_span_id()), kCallersSpan);
  EXPECT_EQ(request.flags(), 0x301u);
  EXPECT_GE(request.start_time_unix_nano(), before);
  EXPECT_LE(request.end_time_unix_nano(), after);
  uint64_t at = request.start_time_unix_nano();
  for (const auto& [i, name] : {std::pair(1, "queue"), {2, "prefill"}, {3, "decode"}}) {
    EXPECT_EQ(spans[i].name(), name);
    EXPECT_EQ(spans[i].kind(), OtlpSpan::SPAN_KIND_INTERNAL);
    EXPECT_EQ(spans[i].parent_span_id(), request.span_id()) << name;
    EXPECT_EQ(spans[i].flags(), 0x101u) << name;
    EXPECT_EQ(spans[i].start_time_unix_nano(), at) << name;
    EXPECT_GE(spans[i].end_time_unix_nano(), at) << name;
    at = spans[i].end_time_unix_nano();
    for (int other = 0; other < i; ++other) EXPECT_NE(spans[i].span_id(), spans[other].span_id());
  }
  EXPECT_EQ(at, request.end_time_unix_nano());
}

TEST(RequestTracesTest, ASpanHasTheRequestsParametersCostAndTimes) {
  TracedServer f;
  f.engine.SetAnswer("four");
  v1::GenerateRequest request = TextRequest("hello", 20);
  request.set_request_id("r-1");
  request.mutable_sampling()->set_temperature(0.5);
  request.mutable_sampling()->set_top_p(0.25);
  request.mutable_sampling()->set_n(2);
  const StreamResult result = f.Stream(request);
  ASSERT_TRUE(result.status.ok());
  const std::vector<OtlpSpan> spans = f.collector.AwaitSpans(kWhole);
  ASSERT_EQ(spans.size(), kWhole);
  const auto attributes = AttributesOf(spans[0]);
  EXPECT_THAT(
      attributes,
      IsSupersetOf(
          {Pair("gen_ai.request.id", "r-1"), Pair("gen_ai.operation.name", "text_completion"),
           Pair("gen_ai.request.model", "fake"), Pair("gen_ai.response.model", "fake"),
           Pair("gen_ai.request.n", "2"), Pair("gen_ai.request.max_tokens", "20"),
           Pair("gen_ai.request.temperature", "0.500000"), Pair("gen_ai.request.top_p", "0.250000"),
           Pair("gen_ai.usage.num_sequences", "2"), Pair("gen_ai.usage.prompt_tokens", "5"),
           Pair("gen_ai.usage.completion_tokens", "10"), Pair("mea.preemptions", "0"),
           Pair("mea.finish_reason", "stop")}));
  const int64_t bytes = std::stoll(attributes.at("mea.cache_bytes"));
  EXPECT_GT(bytes, 0);
  EXPECT_EQ(std::stoll(attributes.at("mea.cache_bytes_all_heads")), 2 * bytes);
  EXPECT_EQ(attributes.at("mea.cached_tokens"),
            std::to_string(result.finish.usage().cached_tokens()));
  const auto seconds = [&](const std::string& name) {
    for (const auto& attribute : spans[0].attributes()) {
      if (attribute.key() == "gen_ai.latency." + name) return attribute.value().double_value();
    }
    ADD_FAILURE() << name;
    return 0.0;
  };
  constexpr double kRounding = 1e-9;
  EXPECT_NEAR(seconds("time_to_first_token"),
              seconds("time_in_queue") + seconds("time_in_model_prefill"), kRounding);
  EXPECT_NEAR(seconds("time_in_model_inference"),
              seconds("time_in_model_prefill") + seconds("time_in_model_decode"), kRounding);
  EXPECT_NEAR(seconds("e2e"), seconds("time_in_queue") + seconds("time_in_model_inference"),
              kRounding);
  EXPECT_EQ(spans[0].status().code(), OtlpStatus::STATUS_CODE_UNSET);
  EXPECT_THAT(attributes, Not(Contains(Key("error.type"))));
}

TEST(RequestTracesTest, EveryPromptOverHttpIsTracedAndNoOtherCall) {
  TracedServer f;
  EXPECT_EQ(f.Post("/tokenize", {{"prompt", "a"}}), 200);
  v1::TokenizeRequest text;
  v1::TokenizeResponse tokens;
  EXPECT_TRUE(f.inference->Tokenize(f.Traced().get(), text, &tokens).ok());
  EXPECT_EQ(f.Post("/v1/completions", {{"prompt", {"a", "b"}}, {"max_tokens", 4}}), 200);
  const std::vector<OtlpSpan> spans = f.collector.AwaitSpans(2 * kWhole);
  ASSERT_EQ(spans.size(), 2 * kWhole);
  for (const OtlpSpan& span : spans) EXPECT_EQ(span.trace_state(), "a=1");
  EXPECT_EQ(Hex(spans[0].parent_span_id()), kCallersSpan);
  EXPECT_EQ(Hex(spans[kWhole].parent_span_id()), kCallersSpan);
}

TEST(RequestTracesTest, TheCallerSaysWhetherItIsTraced) {
  TracedServer f;
  v1::GenerateResponse response;
  for (const char* flags : {"00", "02", "fe"}) {
    ASSERT_TRUE(f.inference->Generate(f.Traced(flags).get(), TextRequest("hey"), &response).ok());
  }
  ASSERT_TRUE(f.inference->Generate(f.Traced("03").get(), TextRequest("four"), &response).ok());
  const std::vector<OtlpSpan> spans = f.collector.AwaitSpans(kWhole);
  ASSERT_EQ(spans.size(), kWhole);
  EXPECT_EQ(AttributesOf(spans[0]).at("gen_ai.usage.prompt_tokens"), "4");
}

TEST(RequestTracesTest, AStateThatIsTooLongIsLeftOut) {
  for (const int excess : {0, 1}) {
    TracedServer f;
    const auto context = f.Traced();
    context->AddMetadata("tracestate", std::string(kMaxTraceStateBytes + excess, 'x'));
    v1::GenerateResponse response;
    ASSERT_TRUE(f.inference->Generate(context.get(), TextRequest("hey"), &response).ok());
    const std::vector<OtlpSpan> spans = f.collector.AwaitSpans(kWhole);
    ASSERT_EQ(spans.size(), kWhole);
    EXPECT_EQ(spans[0].trace_state().size(), excess > 0 ? 0 : kMaxTraceStateBytes);
    EXPECT_EQ(Hex(spans[0].trace_id()), kTraceId);
  }
}

TEST(RequestTracesTest, ARequestWithoutACallerBeginsATraceOfItsOwn) {
  TracedServer f;
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(f.Try(TextRequest("hey")).ok());
  const std::vector<OtlpSpan> spans = f.collector.AwaitSpans(2 * kWhole);
  ASSERT_EQ(spans.size(), 2 * kWhole);
  EXPECT_EQ(spans[0].trace_id().size(), 16u);
  EXPECT_EQ(spans[0].parent_span_id(), "");
  EXPECT_EQ(spans[0].flags(), 0x101u);
  EXPECT_EQ(spans[1].trace_id(), spans[0].trace_id());
  EXPECT_NE(spans[kWhole].trace_id(), spans[0].trace_id());
}

TEST(RequestTracesTest, ASamplerThatTakesNoneTracesOnlyWhoAsks) {
  TracedServer f({}, {.ratio = 0});
  ASSERT_TRUE(f.Try(TextRequest("hey")).ok());
  v1::GenerateResponse response;
  ASSERT_TRUE(f.inference->Generate(f.Traced().get(), TextRequest("four"), &response).ok());
  const std::vector<OtlpSpan> spans = f.collector.AwaitSpans(kWhole);
  ASSERT_EQ(spans.size(), kWhole);
  EXPECT_EQ(Hex(spans[0].trace_id()), kTraceId);
}

TEST(RequestTracesTest, ARefusalIsASpanWithItsReason) {
  TracedServer f({.max_context = 64});
  v1::GenerateRequest bad = TextRequest("hey");
  bad.set_request_id("bad");
  bad.mutable_sampling()->set_top_k(-1);
  EXPECT_FALSE(f.Try(bad).ok());
  EXPECT_FALSE(f.Try(TextRequest(std::string(64, 'x'), 8)).ok());  // found by a text worker
  EXPECT_EQ(f.Post("/v1/completions", {{"prompt", "a"}, {"top_p", 7}}), 400);
  const std::vector<OtlpSpan> spans = f.collector.AwaitSpans(3);
  ASSERT_EQ(spans.size(), 3u);
  for (const OtlpSpan& span : spans) {
    EXPECT_EQ(span.status().code(), OtlpStatus::STATUS_CODE_ERROR);
    EXPECT_EQ(AttributesOf(span).at("error.type"), "INVALID_ARGUMENT");
    EXPECT_GE(span.end_time_unix_nano(), span.start_time_unix_nano());
  }
  EXPECT_EQ(AttributesOf(spans[0]).at("gen_ai.request.id"), "bad");
  EXPECT_EQ(spans[0].status().message(), "sampling.top_k -1 is outside 0..258");
  EXPECT_THAT(spans[1].status().message(), HasSubstr("64 tokens"));
  EXPECT_EQ(Hex(spans[2].parent_span_id()), kCallersSpan);
}

TEST(RequestTracesTest, NothingThatARequestReadsOrWritesIsSent) {
  ServerOptions options;
  options.grammars = *GrammarCompiler::Create(*MakeTestTokenizer(), kVocabSize);
  TracedServer f({}, {}, options);
  f.engine.SetAnswer("medlar quince");
  v1::GenerateRequest request = TextRequest("quince");
  request.mutable_stopping()->add_stop("quince");
  EXPECT_TRUE(f.Try(request).ok());
  request.mutable_structured_output()->set_json_schema(R"({"type": "quince"})");
  EXPECT_FALSE(f.Try(request).ok());
  f.collector.AwaitSpans(kWhole + 1);
  const auto requests = f.collector.requests();
  EXPECT_THAT(requests, Not(IsEmpty()));
  for (const auto& sent : requests) {
    EXPECT_THAT(sent.DebugString(), AllOf(Not(HasSubstr("quince")), Not(HasSubstr("medlar"))));
  }
}

TEST(RequestTracesTest, WhatIsNoUtf8SpoilsNoBatch) {
  TracedServer f;
  v1::GenerateRequest request = TextRequest("hey");
  request.set_request_id("\xff\xfe" + std::string(1000, 'x'));
  EXPECT_FALSE(f.Try(request).ok());
  const std::vector<OtlpSpan> spans = f.collector.AwaitSpans(1);
  ASSERT_EQ(spans.size(), 1u);
  EXPECT_LT(AttributesOf(spans[0]).at("gen_ai.request.id").size(), 300u);
}

TEST(RequestTracesTest, ACancelledRequestSaysSoAndIsNoError) {
  TracedServer f({.automatic = false});
  const auto context = f.Traced();
  const auto reader = f.inference->GenerateStream(context.get(), TextRequest("hey"));
  ASSERT_TRUE(f.engine.AwaitSubmitted(1));
  f.engine.Step();
  context->TryCancel();
  EXPECT_EQ(ReadAll(*reader).status.error_code(), grpc::StatusCode::CANCELLED);
  ASSERT_TRUE(f.engine.AwaitCancels(1));
  f.engine.Step();
  const std::vector<OtlpSpan> spans = f.collector.AwaitSpans(kWhole);
  ASSERT_EQ(spans.size(), kWhole);
  EXPECT_EQ(spans[0].status().code(), OtlpStatus::STATUS_CODE_UNSET);
  const auto attributes = AttributesOf(spans[0]);
  EXPECT_EQ(attributes.at("error.type"), "CANCELLED");
  EXPECT_EQ(attributes.at("gen_ai.usage.prompt_tokens"), "3");
  EXPECT_THAT(attributes, Not(Contains(Key("mea.finish_reason"))));
}

// It only ever waited.
TEST(RequestTracesTest, ARequestThatNeverRanHasBeenInTheQueue) {
  TracedServer f({.automatic = false});
  const auto context = f.Context();
  const auto reader = f.inference->GenerateStream(context.get(), TextRequest("hey"));
  ASSERT_TRUE(f.engine.AwaitSubmitted(1));
  context->TryCancel();
  EXPECT_FALSE(ReadAll(*reader).status.ok());
  ASSERT_TRUE(f.engine.AwaitCancels(1));
  f.engine.Step();
  const std::vector<OtlpSpan> spans = f.collector.AwaitSpans(2);
  ASSERT_EQ(spans.size(), 2u);
  EXPECT_EQ(AttributesOf(spans[0]).at("error.type"), "CANCELLED");
  EXPECT_EQ(spans[1].name(), "queue");
  EXPECT_EQ(spans[1].end_time_unix_nano(), spans[0].end_time_unix_nano());
}

TEST(RequestTracesTest, WhoHasNoKeyLeavesNoTrace) {
  const TestFiles files;
  ServerOptions options;
  files.Write("keys", KeyFileLine({.name = "a", .rights = {true}, .hash = HashOf("secret")}));
  options.access = *Access::Load(files.Path("keys"));
  TracedServer f({}, {}, options);
  EXPECT_EQ(f.Try(TextRequest("hey")).error_code(), grpc::StatusCode::UNAUTHENTICATED);
  const auto context = f.Context();
  context->AddMetadata("authorization", "Bearer secret");
  v1::GenerateResponse response;
  EXPECT_TRUE(f.inference->Generate(context.get(), TextRequest("hey"), &response).ok());
  const std::vector<OtlpSpan> spans = f.collector.AwaitSpans(kWhole);
  ASSERT_EQ(spans.size(), kWhole);
  EXPECT_THAT(f.collector.requests()[0].DebugString(), Not(HasSubstr("secret")));
}

TEST(RequestTracesTest, MetricsCountSpansOnlyWhereTheyAreSent) {
  TracedServer f;
  ASSERT_TRUE(f.Try(TextRequest("hey")).ok());
  f.collector.AwaitSpans(kWhole);
  while (f.exporter.counts().exported < kWhole) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_THAT(f.HttpGet("/metrics"),
              AllOf(HasSubstr("mea_trace_spans_total{model_name=\"fake\",result=\"exported\"} 4"),
                    HasSubstr("mea_trace_spans_total{model_name=\"fake\",result=\"dropped\"} 0")));
  ServerFixture untraced;
  EXPECT_THAT(untraced.HttpGet("/metrics"), Not(HasSubstr("mea_trace")));
}

}  // namespace
}  // namespace mea::testing
