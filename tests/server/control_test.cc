#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "tests/server/server_fixture.h"

namespace mea::testing {
namespace {

using ::testing::ElementsAre;

TEST(ControlTest, ModelInfoShowsHeadsCacheLimitsRangesAndDefaults) {
  FakeEngineOptions options{.max_context = 160};
  options.defaults.temperature = 0.5f;
  options.defaults.max_new_tokens = 32;
  ServerFixture f(options);
  v1::GetModelInfoResponse info;
  ASSERT_TRUE(f.control->GetModelInfo(f.Context().get(), {}, &info).ok());
  EXPECT_EQ(info.name(), "fake");
  EXPECT_EQ(info.base_model_type(), "llama");
  EXPECT_EQ(info.head_composition().kind(), "mea");
  EXPECT_THAT(info.head_composition().component_key_heads(), ElementsAre(2, 2));
  EXPECT_EQ(info.head_composition().composite_heads(), 4);
  EXPECT_EQ(info.cache().bytes_per_token(), 64);
  EXPECT_EQ(info.cache().bytes_per_token_uncompressed(), 128);
  EXPECT_DOUBLE_EQ(info.cache().compression_ratio(), 0.5);
  EXPECT_EQ(info.cache().max_tokens(), 1600);
  EXPECT_EQ(info.limits().max_context(), 160);
  EXPECT_EQ(info.limits().max_stop_strings(), 16);
  EXPECT_EQ(info.limits().max_queued_requests(), 8);
  EXPECT_EQ(info.limits().max_queued_tokens(), 1 << 20);
  EXPECT_THAT(info.eos_token_ids(), ElementsAre(256));
  EXPECT_FLOAT_EQ(info.default_sampling().temperature(), 0.5f);
  EXPECT_FLOAT_EQ(info.default_sampling().top_p(), 1.0f);
  EXPECT_FALSE(info.default_sampling().has_seed());
  EXPECT_EQ(info.default_stopping().max_tokens(), 32);

  std::map<std::string, v1::FieldRange> ranges;
  for (const v1::FieldRange& range : info.ranges()) ranges[range.field()] = range;
  EXPECT_DOUBLE_EQ(ranges.at("sampling.temperature").max(), 2);
  EXPECT_TRUE(ranges.at("sampling.top_p").min_exclusive());
  EXPECT_DOUBLE_EQ(ranges.at("sampling.top_k").max(), kVocabSize);
  EXPECT_DOUBLE_EQ(ranges.at("stopping.max_tokens").max(), 159);
}

TEST(ControlTest, DefaultMaxTokensIsWhatTheModelSaysWithinTheContext) {
  FakeEngineOptions options{.max_context = 40};
  options.defaults.max_new_tokens = 32;
  ServerFixture f(options);
  v1::GenerateRequest request;
  request.set_text("hey");
  ASSERT_TRUE(f.Stream(request).status.ok());
  EXPECT_EQ(f.engine.last_request().stopping.max_tokens, 32);
  request.set_text(std::string(30, 'x'));
  ASSERT_TRUE(f.Stream(request).status.ok());
  EXPECT_EQ(f.engine.last_request().stopping.max_tokens, 10);
}

TEST(ControlTest, GreedyModelIsGreedyUnlessARequestSaysOtherwise) {
  FakeEngineOptions options;
  options.defaults.do_sample = false;
  options.defaults.temperature = 0.9f;
  ServerFixture f(options);
  v1::GenerateRequest request = TextRequest("hey");
  ASSERT_TRUE(f.Stream(request).status.ok());
  EXPECT_FLOAT_EQ(f.engine.last_request().sampling.temperature, 0);
  request.mutable_sampling()->set_temperature(0.4f);
  ASSERT_TRUE(f.Stream(request).status.ok());
  EXPECT_FLOAT_EQ(f.engine.last_request().sampling.temperature, 0.4f);
}

TEST(ControlTest, CacheStatsAndLoadFollowTheRequests) {
  ServerFixture f({.max_num_seqs = 1, .automatic = false});
  v1::GetCacheStatsResponse cache;
  ASSERT_TRUE(f.control->GetCacheStats(f.Context().get(), {}, &cache).ok());
  EXPECT_EQ(cache.used_pages(), 0);
  EXPECT_EQ(cache.free_pages(), cache.total_pages());

  const auto first_context = f.Context();
  const auto first =
      f.inference->GenerateStream(first_context.get(), TextRequest(std::string(16, 'x')));
  ASSERT_TRUE(f.engine.AwaitSubmitted(1));
  const auto second_context = f.Context();
  const auto second = f.inference->GenerateStream(second_context.get(), TextRequest("hey"));
  ASSERT_TRUE(f.engine.AwaitSubmitted(2));
  f.engine.Step();

  ASSERT_TRUE(f.control->GetCacheStats(f.Context().get(), {}, &cache).ok());
  EXPECT_EQ(cache.used_pages(), 2);
  EXPECT_EQ(cache.used_bytes(), 2 * 16 * 64);
  EXPECT_EQ(cache.used_bytes_uncompressed(), 2 * 16 * 128);
  EXPECT_EQ(cache.used_pages() + cache.free_pages(), cache.total_pages());
  EXPECT_DOUBLE_EQ(cache.usage_ratio(), 0.02);
  v1::GetLoadResponse load;
  ASSERT_TRUE(f.control->GetLoad(f.Context().get(), {}, &load).ok());
  EXPECT_EQ(load.num_requests_running(), 1);
  EXPECT_EQ(load.num_requests_waiting(), 1);
  EXPECT_EQ(load.prompt_tokens(), 16);
  EXPECT_EQ(load.generation_tokens(), 1);
  f.engine.Step(20);
  EXPECT_TRUE(ReadAll(*first).status.ok());
  EXPECT_TRUE(ReadAll(*second).status.ok());
}

TEST(ControlTest, ServerInfoNamesVersionBuildAndDevice) {
  ServerFixture f;
  v1::GetServerInfoResponse info;
  ASSERT_TRUE(f.control->GetServerInfo(f.Context().get(), {}, &info).ok());
  EXPECT_FALSE(info.version().empty());
  EXPECT_FALSE(info.build().empty());
  EXPECT_EQ(info.device().substr(0, 4), "CPU ");
  EXPECT_EQ(info.state(), v1::SERVER_STATE_SERVING);
  EXPECT_GT(info.start_time().seconds(), 0);
  EXPECT_EQ(info.memory().weights_bytes(), 1000);
  EXPECT_EQ(info.memory().kv_cache_bytes_uncompressed(), 2 * info.memory().kv_cache_bytes());
  EXPECT_EQ(info.memory().workspace_bytes(), 500);
  EXPECT_EQ(info.memory().scratch_bytes(), 300);
  EXPECT_EQ(info.memory().graphs_bytes(), 100);
  EXPECT_EQ(info.memory().graphs_bytes_used(), 70);
}

}  // namespace
}  // namespace mea::testing
