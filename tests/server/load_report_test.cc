// ORCA: the load beside an answer, for balancers that ask for it.
#include <gmock/gmock.h>
#include <httplib.h>

#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "server/load_report.h"
#include "tests/server/server_fixture.h"
#include "xds/data/orca/v3/orca_load_report.pb.h"

namespace mea::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// What the trailers of a stream say to who asks in this format.
std::string Trailer(const ServerFixture& f, const std::string& format, const std::string& name) {
  const auto context = f.Context();
  if (!format.empty()) context->AddMetadata(kLoadFormatHeader, format);
  EXPECT_TRUE(ReadAll(*f.inference->GenerateStream(context.get(), TextRequest("hey"))).status.ok());
  const auto& trailers = context->GetServerTrailingMetadata();
  const auto it = trailers.find(name);
  return it == trailers.end() ? "" : std::string(it->second.data(), it->second.size());
}

TEST(LoadReportTest, ComesInTheTrailersInTheFormatThatIsAskedFor) {
  const ServerFixture f;
  EXPECT_EQ(Trailer(f, "", "endpoint-load-metrics"), "");
  EXPECT_EQ(Trailer(f, "nonsense", "endpoint-load-metrics"), "");
  EXPECT_THAT(Trailer(f, "TEXT", "endpoint-load-metrics"),
              StartsWith("TEXT named_metrics.kv_cache_utilization=0"));
  const std::string json = Trailer(f, "json", "endpoint-load-metrics");
  ASSERT_THAT(json, StartsWith("JSON {"));
  const auto metrics = nlohmann::json::parse(json.substr(5))["named_metrics"];
  EXPECT_EQ(metrics["num_requests_waiting"], 0);
  // The trailer of "BIN" is for gRPC's balancers alone: its clients do not see it.
}

TEST(LoadReportTest, SaysWhatIsUsedAndWaits) {
  ServerFixture f({.max_num_seqs = 1, .automatic = false});
  const auto first = f.Context();
  const auto second = f.Context();
  const auto running = f.inference->GenerateStream(first.get(), TextRequest("hey"));
  const auto waiting = f.inference->GenerateStream(second.get(), TextRequest("hey"));
  ASSERT_TRUE(f.engine.AwaitSubmitted(2));
  f.engine.Step();
  // A refusal tells it too.
  const auto context = f.Context();
  context->AddMetadata(kLoadFormatHeader, "TEXT");
  v1::GenerateResponse response;
  EXPECT_FALSE(f.inference->Generate(context.get(), {}, &response).ok());
  const auto& trailers = context->GetServerTrailingMetadata();
  const auto it = trailers.find("endpoint-load-metrics");
  ASSERT_NE(it, trailers.end());
  const std::string text(it->second.data(), it->second.size());
  EXPECT_THAT(text, HasSubstr("kv_cache_usage_perc=0.01"));
  EXPECT_THAT(text, HasSubstr("num_requests_waiting=1"));
  first->TryCancel();
  second->TryCancel();
}

TEST(LoadReportTest, IsAHeaderOverHttp) {
  const ServerFixture f;
  httplib::Client client("http://" + f.server->http_address());
  const auto header = [&](const std::string& format, const std::string& name) {
    httplib::Headers headers;
    if (!format.empty()) headers.emplace(kLoadFormatHeader, format);
    const auto result = client.Post("/v1/completions", headers,
                                    R"({"prompt": "hey", "max_tokens": 2})", "application/json");
    EXPECT_TRUE(result && result->status == 200);
    return result ? result->get_header_value(name.c_str()) : "";
  };
  EXPECT_EQ(header("", "endpoint-load-metrics"), "");
  EXPECT_THAT(header("TEXT", "endpoint-load-metrics"), HasSubstr("named_metrics.num_requests"));
  EXPECT_THAT(header("JSON", "endpoint-load-metrics"), StartsWith("JSON {\"named_metrics\""));
  std::string bytes;
  ASSERT_TRUE(absl::Base64Unescape(header("BIN", "endpoint-load-metrics-bin"), &bytes));
  ::xds::data::orca::v3::OrcaLoadReport report;
  ASSERT_TRUE(report.ParseFromString(bytes));
  EXPECT_TRUE(report.named_metrics().contains("num_requests_running"));
}

}  // namespace
}  // namespace mea::testing
