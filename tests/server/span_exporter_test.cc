// How spans reach a collector, and what one costs that is slow, away or of another opinion.
#include "server/traces/span_exporter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <optional>

#include "absl/time/clock.h"
#include "tests/server/access/test_certificates.h"
#include "tests/server/server_fixture.h"
#include "tests/server/trace_collector.h"

namespace mea::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

RequestSpan SpanNamed(const std::string& name) {
  return {.trace_id = std::string(31, '0') + "1", .attributes = {{"name", name}}};
}

// An exporter with a log of its own; the log's lines are complete once it has ended.
struct Exporting {
  explicit Exporting(SpanExporterOptions options) { exporter.emplace(std::move(options), *log); }
  void Put(int count) {
    for (int i = 0; i < count; ++i) exporter->Put(SpanNamed(std::to_string(i)));
  }
  void AwaitDropped(int count) const {
    while (exporter->counts().dropped < count) absl::SleepFor(absl::Milliseconds(1));
  }
  void AwaitExported(int count) const {
    while (exporter->counts().exported < count) absl::SleepFor(absl::Milliseconds(1));
  }
  std::vector<std::string> StopAndReadLog() {
    exporter.reset();
    log.reset();
    return lines.lines();
  }

  LogLines lines;
  std::unique_ptr<Log> log = std::make_unique<Log>(LogOptions{}, lines.Writer());
  std::optional<SpanExporter> exporter;
};

std::vector<std::string> NamesOf(const std::vector<TraceCollector::Span>& spans) {
  std::vector<std::string> names;
  for (const auto& span : spans) names.push_back(AttributesOf(span).at("name"));
  return names;
}

// A call that is answered only when it is cancelled.
grpc::Status Hang(const grpc::ServerContext& context, TraceCollector::Response&) {
  while (!context.IsCancelled()) absl::SleepFor(absl::Milliseconds(1));
  return grpc::Status::CANCELLED;
}

TraceCollector::Answer Failing(grpc::StatusCode code) {
  return [code](const auto&, auto&) { return grpc::Status(code, "not now"); };
}

TEST(SpanExporterTest, SpansWaitForOthersAndGoInBatches) {
  TraceCollector collector;
  SpanExporterOptions options = collector.Options();
  options.period = absl::Hours(1);
  options.max_batch = 3;
  Exporting f(options);
  f.Put(7);
  EXPECT_THAT(NamesOf(collector.AwaitSpans(6)), ElementsAre("0", "1", "2", "3", "4", "5"));
  EXPECT_THAT(collector.requests(), SizeIs(2));
  EXPECT_THAT(f.StopAndReadLog(), IsEmpty());  // the end does not wait for an hour
  EXPECT_THAT(NamesOf(collector.AwaitSpans(7)), SizeIs(7));
}

TEST(SpanExporterTest, EachCallSaysWhatSendsItAndBringsTheHeaders) {
  TraceCollector collector;
  std::multimap<std::string, std::string> headers;
  collector.SetAnswer([&](const grpc::ServerContext& context, auto&) {
    for (const auto& [name, value] : context.client_metadata()) {
      headers.emplace(std::string(name.data(), name.size()),
                      std::string(value.data(), value.size()));
    }
    return grpc::Status::OK;
  });
  SpanExporterOptions options = collector.Options();
  options.headers = {{"x-tenant", "green"}};
  options.resource = {{"service.name", "chat"}, {"zone", "b"}};
  Exporting f(options);
  f.Put(1);
  collector.AwaitSpans(1);
  EXPECT_THAT(headers, ::testing::Contains(::testing::Pair("x-tenant", "green")));
  const auto requests = collector.requests();
  const auto& sent = requests[0].resource_spans(0);
  EXPECT_THAT(AttributesOf(sent.resource()),
              ElementsAre(::testing::Pair("service.name", "chat"), ::testing::Pair("zone", "b")));
  EXPECT_EQ(sent.scope_spans(0).scope().name(), "mea");
}

TEST(SpanExporterTest, ACollectorThatHangsCostsSpansAndNothingElse) {
  TraceCollector collector;
  collector.SetAnswer(Hang);
  SpanExporterOptions options = collector.Options();
  options.max_queued = 5;
  options.max_batch = 5;
  options.last_timeout = absl::Milliseconds(20);
  Exporting f(options);
  f.Put(1);
  ASSERT_TRUE(collector.AwaitCalls(1));  // and hangs until the exporter gives up
  f.Put(12);
  EXPECT_EQ(f.exporter->counts().dropped, 7);
  EXPECT_EQ(f.exporter->counts().exported, 0);
  EXPECT_THAT(f.StopAndReadLog(), ElementsAre(HasSubstr(" warning traces not sent collector=")));
  EXPECT_THAT(collector.requests(), IsEmpty());
}

TEST(SpanExporterTest, ACallThatTakesTooLongIsGivenUp) {
  TraceCollector collector;
  collector.SetAnswer(Hang);
  SpanExporterOptions options = collector.Options();
  options.timeout = absl::Milliseconds(20);
  Exporting f(options);
  f.Put(1);
  f.AwaitDropped(1);
  collector.SetAnswer(nullptr);
  f.Put(1);
  EXPECT_THAT(collector.AwaitSpans(1), SizeIs(1));
  f.AwaitExported(1);
  EXPECT_THAT(f.StopAndReadLog(),
              ElementsAre(HasSubstr("message=\"DEADLINE_EXCEEDED: Deadline Exceeded\""),
                          HasSubstr(" info traces sent again dropped=1")));
}

TEST(SpanExporterTest, ACollectorThatIsUnavailableIsAskedAgain) {
  TraceCollector collector;
  std::atomic<int> calls = 0;
  collector.SetAnswer([&](const auto&, auto&) {
    return ++calls < kMaxExportAttempts ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "not now")
                                        : grpc::Status::OK;
  });
  Exporting f(collector.Options());
  f.Put(1);
  EXPECT_THAT(NamesOf(collector.AwaitSpans(1)), ElementsAre("0"));
  f.AwaitExported(1);
  EXPECT_EQ(calls, kMaxExportAttempts);
  EXPECT_EQ(f.exporter->counts().dropped, 0);
  EXPECT_THAT(f.StopAndReadLog(),
              ElementsAre(AllOf(HasSubstr(" warning traces not sent collector=127.0.0.1:"),
                                HasSubstr("message=\"UNAVAILABLE: not now\"")),
                          HasSubstr(" info traces sent again dropped=0")));
}

TEST(SpanExporterTest, ACollectorThatStaysAwayCostsOneWarning) {
  SpanExporterOptions options;
  {
    TraceCollector gone;
    options = gone.Options();
  }
  Exporting f(options);
  for (int i = 1; i <= 3; ++i) {
    f.Put(1);
    f.AwaitDropped(i);
  }
  EXPECT_THAT(f.StopAndReadLog(), ElementsAre(HasSubstr(" warning traces not sent collector=")));
}

TEST(SpanExporterTest, WhatIsRefusedIsNotSentAgain) {
  TraceCollector collector;
  collector.SetAnswer(Failing(grpc::StatusCode::INVALID_ARGUMENT));
  Exporting f(collector.Options());
  f.Put(1);
  f.AwaitDropped(1);
  collector.SetAnswer(nullptr);
  f.exporter->Put(SpanNamed("next"));
  EXPECT_THAT(NamesOf(collector.AwaitSpans(1)), ElementsAre("next"));
}

TEST(SpanExporterTest, SpansThatACollectorRejectsAreDropped) {
  TraceCollector collector;
  collector.SetAnswer([](const auto&, TraceCollector::Response& response) {
    response.mutable_partial_success()->set_rejected_spans(2);
    response.mutable_partial_success()->set_error_message("too old");
    return grpc::Status::OK;
  });
  SpanExporterOptions options = collector.Options();
  options.period = absl::Hours(1);
  options.max_batch = 3;
  Exporting f(options);
  f.Put(6);
  f.AwaitDropped(4);
  EXPECT_EQ(f.exporter->counts().exported, 2);
  EXPECT_THAT(f.StopAndReadLog(), ElementsAre(HasSubstr("message=\"too old\"")));
}

TEST(SpanExporterTest, WithTlsOnlyACollectorThatIsTrustedGetsSpans) {
  const TestAuthority authority;
  const TestAuthority other;
  const TestCertificate own = authority.Sign();
  grpc::SslServerCredentialsOptions tls;
  tls.pem_key_cert_pairs.push_back({own.key, own.cert});
  TraceCollector collector(grpc::SslServerCredentials(tls));
  SpanExporterOptions options = collector.Options();
  options.tls_roots = other.cert();
  Exporting stranger(options);
  stranger.Put(1);
  stranger.AwaitDropped(1);
  options.tls_roots = authority.cert();
  Exporting f(options);
  f.exporter->Put(SpanNamed("trusted"));
  EXPECT_THAT(NamesOf(collector.AwaitSpans(1)), ElementsAre("trusted"));
}

// Whoever has a proxy for the world outside reaches its own machine all the same.
TEST(SpanExporterTest, TheLoopbackNeedsNoProxy) {
  setenv("http_proxy", "http://127.0.0.1:1", 1);
  TraceCollector collector;
  {
    Exporting f(collector.Options());
    f.Put(1);
    EXPECT_THAT(collector.AwaitSpans(1), SizeIs(1));
  }
  unsetenv("http_proxy");
}

}  // namespace
}  // namespace mea::testing
