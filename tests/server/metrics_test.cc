// Scrapes over HTTP as Prometheus does.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/synchronization/notification.h"
#include "tests/server/server_fixture.h"

namespace mea::testing {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;

struct Scrape {
  std::map<std::string, std::string> types;  // by family
  std::set<std::string> helps;
  std::map<std::string, double> samples;  // by name and labels, as written

  double At(const std::string& sample) const {
    const auto it = samples.find(sample);
    EXPECT_NE(it, samples.end()) << sample;
    return it == samples.end() ? -1 : it->second;
  }
};

// The text format, read strictly: every line is a HELP, a TYPE or a sample of a declared family.
Scrape ScrapeMetrics(const ServerFixture& f) {
  std::string head;
  std::istringstream lines(f.HttpGet("/metrics", &head));
  EXPECT_THAT(head, HasSubstr("text/plain; version=0.0.4"));
  Scrape scrape;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string first, kind, name;
    words >> first;
    if (first == "#") {
      words >> kind >> name;
      std::string rest;
      std::getline(words >> std::ws, rest);
      if (kind == "HELP") {
        EXPECT_TRUE(absl::EndsWith(rest, ".")) << line;  // a sentence
        scrape.helps.insert(name);
      } else {
        EXPECT_EQ(kind, "TYPE") << line;
        EXPECT_TRUE(scrape.types.emplace(name, rest).second) << "twice: " << line;
      }
      continue;
    }
    const size_t space = line.rfind(' ');
    const std::string key = line.substr(0, space);
    EXPECT_THAT(key, HasSubstr("model_name=\"fake\""));
    EXPECT_TRUE(scrape.samples.emplace(key, std::stod(line.substr(space + 1))).second) << line;
  }
  for (const auto& [name, type] : scrape.types) EXPECT_EQ(scrape.helps.count(name), 1u) << name;
  return scrape;
}

TEST(MetricsTest, CacheMemoryStandsBesideWhatItWouldBeUncompressed) {
  ServerFixture f({.automatic = false});
  const auto context = f.Context();
  const auto reader = f.inference->GenerateStream(context.get(), TextRequest("hey"));
  ASSERT_TRUE(f.engine.AwaitSubmitted(1));
  f.engine.Step();

  const Scrape s = ScrapeMetrics(f);
  const std::string m = "{model_name=\"fake\"";
  EXPECT_EQ(s.At("mea_kv_cache_bytes" + m + ",state=\"used\"}"), 16 * 64);
  EXPECT_EQ(s.At("mea_kv_cache_bytes" + m + ",state=\"cached\"}"), 0);
  EXPECT_EQ(s.At("mea_kv_cache_bytes" + m + ",state=\"free\"}"), 99 * 16 * 64);
  EXPECT_EQ(s.At("mea_kv_cache_uncompressed_bytes" + m + "}"), 16 * 128);
  EXPECT_EQ(s.At("mea_kv_cache_bytes_per_token" + m + ",heads=\"physical\"}"), 64);
  EXPECT_EQ(s.At("mea_kv_cache_bytes_per_token" + m + ",heads=\"virtual\"}"), 128);
  EXPECT_EQ(s.At("mea_kv_cache_compression_ratio" + m + "}"), 0.5);
  EXPECT_EQ(s.At("mea_kv_cache_usage_ratio" + m + "}"), 0.01);
  EXPECT_EQ(s.At("mea_kv_cache_pages" + m + ",state=\"used\"}"), 1);
  EXPECT_EQ(s.At("mea_kv_cache_pages" + m + ",state=\"free\"}"), 99);
  EXPECT_EQ(
      s.At("mea_cache_config_info" + m + ",page_size=\"16\",num_pages=\"100\",dtype=\"bf16\"}"), 1);
  EXPECT_EQ(s.At("mea_memory_bytes" + m + ",kind=\"weights\"}"), 1000);
  EXPECT_EQ(s.At("mea_memory_bytes" + m + ",kind=\"kv_cache\"}"), 100 * 16 * 64);
  EXPECT_EQ(s.At("mea_memory_bytes" + m + ",kind=\"workspace\"}"), 500);
  EXPECT_EQ(s.At("mea_memory_bytes" + m + ",kind=\"scratch\"}"), 300);
  EXPECT_EQ(s.At("mea_memory_bytes" + m + ",kind=\"graphs\"}"), 70);
  EXPECT_EQ(s.At("mea_num_requests_running" + m + "}"), 1);
  EXPECT_EQ(s.types.at("mea_kv_cache_bytes"), "gauge");
  EXPECT_EQ(s.types.at("mea_num_preemptions_total"), "counter");
  f.engine.Step(6);
  EXPECT_TRUE(ReadAll(*reader).status.ok());
}

TEST(MetricsTest, WhatTheDeviceDidIsCounted) {
  ServerFixture f;
  const Scrape s = ScrapeMetrics(f);
  const std::string m = "{model_name=\"fake\"}";
  EXPECT_EQ(s.At("mea_device_graph_replays_total" + m), 11);
  EXPECT_EQ(s.At("mea_device_eager_runs_total" + m), 12);
  EXPECT_EQ(s.At("mea_device_graph_captures_total" + m), 13);
  EXPECT_EQ(s.At("mea_device_step_allocations_total" + m), 14);
  EXPECT_EQ(s.types.at("mea_device_step_allocations_total"), "counter");
}

TEST(MetricsTest, RequestsAreCountedOnceByHowTheyEnded) {
  ServerFixture f;
  f.engine.SetAnswer("hello");
  EXPECT_TRUE(f.Try(TextRequest("hey")).ok());
  EXPECT_TRUE(f.Stream(TextRequest("hey")).status.ok());
  EXPECT_TRUE(f.Try(TextRequest("hey", 2)).ok());
  EXPECT_FALSE(f.Try(TextRequest("")).ok());

  const Scrape s = ScrapeMetrics(f);
  const std::string m = "{model_name=\"fake\",code=";
  EXPECT_EQ(s.At("mea_requests_total" + m + "\"OK\",finish_reason=\"stop\"}"), 2);
  EXPECT_EQ(s.At("mea_requests_total" + m + "\"OK\",finish_reason=\"length\"}"), 1);
  EXPECT_EQ(s.At("mea_requests_total" + m + "\"INVALID_ARGUMENT\",finish_reason=\"\"}"), 1);
  EXPECT_EQ(s.At("mea_prompt_tokens_total{model_name=\"fake\"}"), 9);
  EXPECT_EQ(s.At("mea_generation_tokens_total{model_name=\"fake\"}"), 6 + 6 + 2);
}

TEST(MetricsTest, LatenciesAreHistogramsInSeconds) {
  ServerFixture f;
  f.engine.SetAnswer("hello");
  EXPECT_TRUE(f.Try(TextRequest("hey")).ok());
  f.metrics.ObserveStep({.num_prefill_tokens = 3, .seconds = 0.5});
  f.metrics.ObserveStep(
      {.num_prefill_tokens = 3, .num_decode_tokens = 1, .prompt_budget = 40, .seconds = 0.25});
  f.metrics.ObserveStep({.num_decode_tokens = 1, .prompt_budget = 50, .seconds = 0.002});

  const Scrape s = ScrapeMetrics(f);
  const std::string m = "{model_name=\"fake\"}";
  EXPECT_EQ(s.At("mea_time_to_first_token_seconds_count" + m), 1);
  EXPECT_EQ(s.At("mea_inter_token_latency_seconds_count" + m), 5);
  EXPECT_EQ(s.At("mea_e2e_request_latency_seconds_count" + m), 1);
  EXPECT_EQ(s.At("mea_request_queue_time_seconds_count" + m), 1);
  EXPECT_GE(s.At("mea_e2e_request_latency_seconds_sum" + m),
            s.At("mea_time_to_first_token_seconds_sum" + m));
  EXPECT_EQ(s.At("mea_step_seconds_sum{model_name=\"fake\",phase=\"prefill\"}"), 0.5);
  EXPECT_EQ(s.At("mea_step_seconds_sum{model_name=\"fake\",phase=\"mixed\"}"), 0.25);
  EXPECT_EQ(s.At("mea_step_seconds_count{model_name=\"fake\",phase=\"decode\"}"), 1);
  EXPECT_EQ(s.At("mea_inter_token_latency_seconds_bucket{model_name=\"fake\",le=\"+Inf\"}"), 5);
  EXPECT_EQ(
      s.samples.count("mea_inter_token_latency_seconds_bucket{model_name=\"fake\",le=\"0.0005\"}"),
      1u);
  EXPECT_EQ(s.types.at("mea_step_seconds"), "histogram");
  EXPECT_EQ(s.At("mea_step_prompt_budget_tokens_count" + m), 1);
  EXPECT_EQ(s.At("mea_step_prompt_budget_tokens_sum" + m), 40);
}

TEST(MetricsTest, WhatRequestsTookIsCounted) {
  ServerFixture f;
  f.engine.SetAnswer("hello");
  EXPECT_TRUE(f.Try(TextRequest("hey", 7)).ok());
  f.metrics.ObserveStep({.num_prefill_tokens = 3, .num_decode_tokens = 2, .seconds = 4000});
  const Scrape s = ScrapeMetrics(f);
  const std::string m = "{model_name=\"fake\"}";
  EXPECT_EQ(s.At("mea_request_prompt_tokens_sum" + m), 3);
  EXPECT_EQ(s.At("mea_request_generation_tokens_sum" + m), 6);
  EXPECT_EQ(s.At("mea_request_params_max_tokens_sum" + m), 7);
  EXPECT_EQ(s.At("mea_request_params_n_sum" + m), 1);
  EXPECT_EQ(s.At("mea_step_tokens_sum" + m), 5);
  for (const char* time : {"prefill", "decode", "inference"}) {
    EXPECT_EQ(s.At("mea_request_" + std::string(time) + "_time_seconds_count" + m), 1) << time;
  }
  EXPECT_EQ(s.At("mea_request_time_per_output_token_seconds_count" + m), 1);
  EXPECT_EQ(s.At("mea_step_seconds_bucket{model_name=\"fake\",phase=\"mixed\",le=\"3600\"}"), 0);
  EXPECT_EQ(s.At("mea_e2e_request_latency_seconds_bucket{model_name=\"fake\",le=\"3600\"}"), 1);
}

TEST(MetricsTest, TheLongestCompletionOfARequestIsKnown) {
  ServerFixture f;
  f.engine.SetAnswer("hello");
  v1::GenerateRequest request = TextRequest("hey");
  request.mutable_sampling()->set_n(2);
  EXPECT_TRUE(f.Try(request).ok());
  const Scrape s = ScrapeMetrics(f);
  EXPECT_EQ(s.At("mea_request_generation_tokens_sum{model_name=\"fake\"}"), 12);
  EXPECT_EQ(s.At("mea_request_max_generation_tokens_sum{model_name=\"fake\"}"), 6);
}

TEST(MetricsTest, CompiledGrammarsAndDroppedLinesAreCounted) {
  FakeEngine engine;
  const Access access;
  absl::Notification go_on;
  Log log({.max_queued_lines = 1}, [&](std::string_view) { go_on.WaitForNotification(); });
  const auto grammars = GrammarCompiler::OfVocabulary({"a", "b"}, 2, {});
  ASSERT_TRUE(grammars.ok());
  ASSERT_TRUE((*grammars)->Compile({.kind = GrammarSpec::Kind::kRegex, .text = "a+"}).ok());
  for (int i = 0; i < 5; ++i) log.Write(LogLevel::kInfo, "e");
  const std::string text = Metrics({.model_name = "m"}).Text({engine, access, log, &**grammars});
  go_on.Notify();
  EXPECT_THAT(text, ContainsRegex("\nmea_grammar_cache_bytes\\{model_name=\"m\"\\} [1-9]"));
  EXPECT_THAT(text, ContainsRegex("\nmea_log_lines_dropped_total\\{model_name=\"m\"\\} [1-9]"));
}

TEST(MetricsTest, NameOfAModelIsALabelWhateverItHolds) {
  FakeEngine engine;
  const Access access;
  const Log log({.level = LogLevel::kOff});
  const auto text = [&](const std::string& name) {
    return Metrics({.model_name = name}).Text({engine, access, log});
  };
  EXPECT_THAT(text("a\"b\\c\nd"), HasSubstr("model_name=\"a\\\"b\\\\c?d\""));
  EXPECT_THAT(text("caf\xc3\xa9"), HasSubstr("model_name=\"caf\xc3\xa9\""));
  EXPECT_THAT(text("caf\xe9"), HasSubstr("model_name=\"caf?\""));
  EXPECT_THAT(text(std::string(1000, 'x')),
              HasSubstr("model_name=\"" + std::string(256, 'x') + "\""));
}

TEST(MetricsTest, NamesThatRoutersReadAreThereWhenAskedFor) {
  ServerFixture plain;
  EXPECT_THAT(plain.HttpGet("/metrics"), ::testing::Not(HasSubstr("vllm:")));
  ServerFixture f({}, /*vllm_names=*/true);
  const Scrape s = ScrapeMetrics(f);
  EXPECT_EQ(s.At("vllm:num_requests_running{model_name=\"fake\"}"), 0);
  EXPECT_EQ(s.At("vllm:kv_cache_usage_perc{model_name=\"fake\"}"), 0);
  EXPECT_EQ(
      s.At("vllm:cache_config_info{model_name=\"fake\",block_size=\"16\",num_gpu_blocks=\"100\"}"),
      1);
  EXPECT_EQ(s.At("vllm:time_to_first_token_seconds_count{model_name=\"fake\"}"), 0);
  EXPECT_TRUE(f.Try(TextRequest("hey", 2)).ok());
  const Scrape after = ScrapeMetrics(f);
  const std::string m = "{model_name=\"fake\"";
  EXPECT_EQ(after.At("vllm:request_success_total" + m + ",finished_reason=\"length\"}"), 1);
  EXPECT_EQ(after.At("vllm:request_success_total" + m + ",finished_reason=\"abort\"}"), 0);
  for (const char* histogram :
       {"time_to_first_token_seconds", "inter_token_latency_seconds", "e2e_request_latency_seconds",
        "request_queue_time_seconds", "request_prefill_time_seconds", "request_decode_time_seconds",
        "request_inference_time_seconds", "request_time_per_output_token_seconds",
        "request_prompt_tokens", "request_generation_tokens", "request_max_num_generation_tokens",
        "request_params_n", "request_params_max_tokens"}) {
    EXPECT_EQ(after.At("vllm:" + std::string(histogram) + "_count" + m + "}"), 1) << histogram;
  }
  EXPECT_EQ(after.types.at("vllm:iteration_tokens_total"), "histogram");
  for (const char* counter : {"num_preemptions", "prompt_tokens", "generation_tokens",
                              "prefix_cache_queries", "prefix_cache_hits"}) {
    EXPECT_EQ(after.types.at("vllm:" + std::string(counter) + "_total"), "counter") << counter;
  }
}

}  // namespace
}  // namespace mea::testing
