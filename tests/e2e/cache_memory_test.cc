#include <gtest/gtest.h>

#include "tests/e2e/served_model.h"

namespace mea::testing {
namespace {

// The promise of the project, read off a running server.

TEST(CacheMemoryTest, TheCompressedModelTakesHalfOfItsTwinsBytes) {
  ServedModel mea("demo-mea");
  ServedModel mha("demo-mha");
  const v1::GetCacheStatsResponse half = mea.CacheStats();
  const v1::GetCacheStatsResponse full = mha.CacheStats();
  EXPECT_EQ(2 * half.bytes_per_token(), full.bytes_per_token());
  EXPECT_EQ(half.bytes_per_token_uncompressed(), full.bytes_per_token());
  EXPECT_EQ(full.bytes_per_token_uncompressed(), full.bytes_per_token());
  EXPECT_EQ(mea.ModelInfo().cache().compression_ratio(), 0.5);
  EXPECT_EQ(mha.ModelInfo().cache().compression_ratio(), 1.0);
}

TEST(CacheMemoryTest, AllocatedAndReportedBytesEqualTheFormula) {
  for (const char* model : {"demo-mea", "demo-mha"}) {
    EngineOptions options;
    options.kv_cache_bytes = 8 << 20;
    ServedModel served(model, options);
    const ModelConfig& config = served.engine().config();
    int64_t per_token = 0;
    for (const LayerHeads& heads : config.layer_heads) {
      per_token += int64_t{heads.key_heads + heads.value_heads} * config.head_dim * 2;  // BF16
    }
    const v1::GetCacheStatsResponse stats = served.CacheStats();
    EXPECT_EQ(stats.bytes_per_token(), per_token);
    EXPECT_EQ(stats.total_bytes(), per_token * stats.page_size() * stats.total_pages());
    EXPECT_EQ(stats.total_bytes(), served.engine().memory_plan().kv_cache_bytes);
    EXPECT_LE(stats.total_bytes(), options.kv_cache_bytes);
    EXPECT_GT(stats.total_bytes() + per_token * stats.page_size(), options.kv_cache_bytes);
  }
}

TEST(CacheMemoryTest, TheSameMemoryHoldsTwiceTheTokens) {
  EngineOptions options;
  options.kv_cache_bytes = 8 << 20;
  ServedModel mea("demo-mea", options);
  ServedModel mha("demo-mha", options);
  EXPECT_EQ(mea.ModelInfo().cache().max_tokens(), 2 * mha.ModelInfo().cache().max_tokens());
}

TEST(CacheMemoryTest, AStreamHoldsItsPagesWhileItRunsAndNoneAfterwards) {
  ServedModel served("demo-mea");
  v1::GenerateRequest request;
  request.set_text("One day");
  request.mutable_stopping()->set_max_tokens(300);
  request.mutable_stopping()->set_ignore_eos(true);
  int64_t most = 0;
  const Streamed streamed = Stream(served.inference(), request, [&](grpc::ClientContext&, int) {
    const v1::GetCacheStatsResponse stats = served.CacheStats();
    EXPECT_EQ(stats.used_bytes_uncompressed(), 2 * stats.used_bytes());
    EXPECT_EQ(stats.used_pages() + stats.cached_pages() + stats.free_pages(), stats.total_pages());
    most = std::max(most, stats.used_bytes());
  });
  EXPECT_TRUE(streamed.status.ok());
  EXPECT_GT(most, 0);
  EXPECT_EQ(served.CacheStats().used_bytes(), 0);
  const v1::Usage& usage = streamed.finish.usage();
  EXPECT_GE(usage.kv_bytes(), most);
  EXPECT_EQ(usage.kv_bytes_uncompressed(), 2 * usage.kv_bytes());
}

TEST(CacheMemoryTest, ASecondPromptThatBeginsAlikeFindsItsPages) {
  ServedModel served("demo-mea");
  v1::GenerateRequest request;
  for (int i = 0; i < 100; ++i) request.mutable_token_ids()->add_ids(5 + i);
  request.mutable_stopping()->set_max_tokens(8);
  request.mutable_sampling()->set_temperature(0);
  const Streamed cold = Stream(served.inference(), request);
  EXPECT_EQ(cold.finish.usage().cached_tokens(), 0);
  EXPECT_EQ(served.CacheStats().cached_pages(), 3);
  const Streamed warm = Stream(served.inference(), request);
  EXPECT_EQ(warm.finish.usage().cached_tokens(), 96);
  EXPECT_EQ(warm.text, cold.text);
  request.mutable_cache()->set_bypass_prefix_cache(true);
  EXPECT_EQ(Stream(served.inference(), request).finish.usage().cached_tokens(), 0);
}

}  // namespace
}  // namespace mea::testing
