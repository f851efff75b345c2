#include "server/traces/trace_settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "server/build_info.h"
#include "tests/server/access/test_certificates.h"

namespace mea::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

using Variables = std::map<std::string, std::string>;

absl::StatusOr<std::optional<TraceSettings>> Read(const std::string& flag,
                                                  const Variables& variables = {}) {
  return ReadTraceSettings(flag, [&](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? "" : found->second;
  });
}

// The collector's address; "off", or the refusal.
std::string CollectorOf(const std::string& flag, const Variables& variables = {}) {
  const auto settings = Read(flag, variables);
  if (!settings.ok()) return std::string(settings.status().message());
  return *settings ? (*settings)->exporter.collector.ToString() : "off";
}

TEST(TraceSettingsTest, AFlagNamesTheCollector) {
  const std::vector<std::pair<std::string, std::string>> answers = {
      {"", "off"},
      {"off", "off"},
      {"http://collector:9000", "collector:9000"},
      {"http://collector/", "collector:4317"},
      {"http://[::1]", "[::1]:4317"},
      {"http://[::1]:5", "[::1]:5"},
      {"collector:4317",
       "--otlp-traces 'collector:4317' is not http://HOST:PORT or https://HOST:PORT"},
      {"grpc://collector",
       "--otlp-traces 'grpc://collector' is not http://HOST:PORT or https://HOST:PORT"},
      {"http://", "--otlp-traces 'http://' is not http://HOST:PORT or https://HOST:PORT"},
      {"http://h:70000",
       "--otlp-traces 'http://h:70000' is not http://HOST:PORT or https://HOST:PORT"},
      {"http://h:4318/v1/traces",
       "--otlp-traces 'http://h:4318/v1/traces' has more than a host and a port: OTLP over gRPC "
       "has no path"},
      {"http://user:secret@h", "--otlp-traces has more than a host and a port"},
  };
  for (const auto& [flag, answer] : answers) EXPECT_EQ(CollectorOf(flag), answer) << flag;
}

TEST(TraceSettingsTest, WithoutTheFlagTheEnvironmentDecides) {
  const Variables general = {{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://all"}};
  const auto with = [&](Variables more) {
    more.insert(general.begin(), general.end());
    return more;
  };
  EXPECT_EQ(CollectorOf("", general), "all:4317");
  EXPECT_EQ(CollectorOf("http://flag", general), "flag:4317");
  EXPECT_EQ(CollectorOf("off", general), "off");
  EXPECT_EQ(CollectorOf("", with({{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces"}})),
            "traces:4317");
  EXPECT_EQ(CollectorOf("", with({{"OTEL_SDK_DISABLED", "True"}})), "off");
  EXPECT_EQ(CollectorOf("", with({{"OTEL_TRACES_EXPORTER", "none"}})), "off");
  EXPECT_EQ(CollectorOf("", with({{"OTEL_TRACES_EXPORTER", "otlp"}})), "all:4317");
  const Variables http = with({{"OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"}});
  EXPECT_EQ(CollectorOf("", http),
            "OTEL_EXPORTER_OTLP_PROTOCOL 'http/protobuf' is not grpc, the one that is spoken");
  EXPECT_EQ(CollectorOf("http://flag", http), "flag:4317");
  EXPECT_EQ(CollectorOf("", {{"OTEL_EXPORTER_OTLP_ENDPOINT", "all"}}),
            "OTEL_EXPORTER_OTLP_ENDPOINT 'all' is not http://HOST:PORT or https://HOST:PORT");
}

NamedTexts ResourceOf(const Variables& variables) {
  return (*Read("http://c", variables))->exporter.resource;
}

TEST(TraceSettingsTest, TheResourceIsNamed) {
  const auto version = Pair("service.version", Version());
  EXPECT_THAT(ResourceOf({}), ElementsAre(Pair("service.name", "mea"), version));
  const std::string list = "service.name=a, zone = b%2Cc%zz ,x=";
  EXPECT_THAT(
      ResourceOf({{"OTEL_RESOURCE_ATTRIBUTES", list}}),
      ElementsAre(Pair("service.name", "a"), Pair("zone", "b,c%zz"), Pair("x", ""), version));
  EXPECT_THAT(ResourceOf({{"OTEL_RESOURCE_ATTRIBUTES", list}, {"OTEL_SERVICE_NAME", "s"}}),
              UnorderedElementsAre(Pair("service.name", "s"), Pair("zone", "b,c%zz"), Pair("x", ""),
                                   version));
  EXPECT_THAT(ResourceOf({{"OTEL_SERVICE_NAME", "\xff"}}),
              ElementsAre(Pair("service.name", "\xef\xbf\xbd"), version));
  EXPECT_EQ(CollectorOf("http://c", {{"OTEL_RESOURCE_ATTRIBUTES", "a=b,c"}}),
            "OTEL_RESOURCE_ATTRIBUTES 'c' is not NAME=VALUE");
}

TEST(TraceSettingsTest, HeadersAreThoseOfHttp2AndTheirValuesAreNotTold) {
  const auto headers = [](const std::string& list) {
    return (*Read("http://c", {{"OTEL_EXPORTER_OTLP_HEADERS", list}}))->exporter.headers;
  };
  EXPECT_THAT(headers(""), IsEmpty());
  EXPECT_THAT(headers("Api-Key=se%20cret=,b=2"),
              ElementsAre(Pair("api-key", "se cret="), Pair("b", "2")));
  for (const char* bad : {"a b=secret", "a=secret%0a", "grpc-timeout=secret", "a-bin=secret"}) {
    const std::string problem = CollectorOf("http://c", {{"OTEL_EXPORTER_OTLP_HEADERS", bad}});
    EXPECT_THAT(problem, ::testing::MatchesRegex(
                             "OTEL_EXPORTER_OTLP_HEADERS: .* is no header of printable ASCII"))
        << bad;
    EXPECT_THAT(problem, ::testing::Not(::testing::HasSubstr("secret"))) << bad;
  }
}

TEST(TraceSettingsTest, HttpsTakesTheSystemsAuthoritiesOrAFile) {
  const TestFiles files;
  const std::string file = files.Write("ca.pem", "some authority");
  const auto roots = [&](const std::string& flag) {
    return (*Read(flag, {{"OTEL_EXPORTER_OTLP_CERTIFICATE", file}}))->exporter.tls_roots;
  };
  EXPECT_EQ(roots("https://c"), "some authority");
  EXPECT_EQ(roots("http://c"), "");
  EXPECT_THAT(CollectorOf("https://c", {{"OTEL_EXPORTER_OTLP_CERTIFICATE", files.Path("none")}}),
              ::testing::HasSubstr(files.Path("none")));
}

TEST(TraceSettingsTest, TheSamplerIsOneOfOpenTelemetrys) {
  const auto sampler = [](const std::string& name, const std::string& arg = "") {
    return (*Read("http://c", {{"OTEL_TRACES_SAMPLER", name}, {"OTEL_TRACES_SAMPLER_ARG", arg}}))
        ->sampler;
  };
  const TraceContext unsampled{.trace_id = std::string(31, '0') + "1", .sampled = false};
  TraceContext sampled = unsampled;
  sampled.sampled = true;
  const TraceContext nobody;
  const std::string low = std::string(31, '0') + "1";
  const std::string high(32, 'f');
  const std::string half = std::string(16, 'f') + "8" + std::string(15, '0');
  struct Row {
    std::string name, arg;
    bool of_unsampled, of_sampled, of_low, of_half, of_high;  // the last three without a caller
  };
  for (const Row& row :
       std::vector<Row>{{"", "", false, true, true, true, true},
                        {"always_on", "", true, true, true, true, true},
                        {"always_off", "", false, false, false, false, false},
                        {"traceidratio", "0.5", true, true, true, false, false},
                        {"traceidratio", "0.51", true, true, true, true, false},
                        {"traceidratio", "", true, true, true, true, true},
                        {"parentbased_always_on", "", false, true, true, true, true},
                        {"parentbased_always_off", "", false, true, false, false, false},
                        {"parentbased_traceidratio", "0.5", false, true, true, false, false},
                        {"parentbased_traceidratio", "0", false, true, false, false, false}}) {
    const TraceSampler takes = sampler(row.name, row.arg);
    EXPECT_EQ(takes.Takes(unsampled, low), row.of_unsampled) << row.name;
    EXPECT_EQ(takes.Takes(sampled, low), row.of_sampled) << row.name;
    EXPECT_EQ(takes.Takes(nobody, low), row.of_low) << row.name;
    EXPECT_EQ(takes.Takes(nobody, half), row.of_half) << row.name;
    EXPECT_EQ(takes.Takes(nobody, high), row.of_high) << row.name;
  }
  EXPECT_EQ(CollectorOf("http://c", {{"OTEL_TRACES_SAMPLER", "jaeger_remote"}}),
            "OTEL_TRACES_SAMPLER 'jaeger_remote' is not always_on, always_off or traceidratio, or "
            "one of them after parentbased_");
  for (const char* arg : {"2", "-1", "nan", "x"}) {
    EXPECT_EQ(CollectorOf("http://c", {{"OTEL_TRACES_SAMPLER", "traceidratio"},
                                       {"OTEL_TRACES_SAMPLER_ARG", arg}}),
              "OTEL_TRACES_SAMPLER_ARG '" + std::string(arg) + "' is not a number in 0..1");
  }
}

}  // namespace
}  // namespace mea::testing
