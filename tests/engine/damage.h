#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <span>
#include <string>

#include "tests/engine/outcome.h"

// What a token whose embedding is NaN does to an engine: its own request ends, nothing else. On a
// device, whose graphs are one model's, no other run is there to compare with.
namespace mea::testing {

inline constexpr int kNanToken = 7;

// A request without the token, unless it is put there.
inline Request HealthyRequest(uint64_t seed, int prompt_length, int max_tokens, int vocab_size) {
  Request request = RandomRequest(seed, prompt_length, max_tokens, vocab_size);
  std::ranges::replace(request.prompt, kNanToken, kNanToken + 1);
  request.sampling.logit_bias = {{kNanToken, -100.0f}};
  return request;
}

inline void ExpectInternal(const RecordingSink& sink) {
  ASSERT_TRUE(sink.finish.has_value());
  EXPECT_EQ(sink.finish->status.code(), absl::StatusCode::kInternal) << sink.finish->status;
}

// A damaged prompt runs in chunks beside healthy requests; some begin as it does, later.
inline void ExpectADamagedPromptEndsAlone(RandomModelSpec spec, HarnessOptions options) {
  spec.nan_token = kNanToken;
  options.prefix_cache = true;
  options.max_batch_tokens = 3 * options.page_size;
  options.max_num_seqs = 16;
  const int half = 5 * options.page_size / 2;
  Request damaged = HealthyRequest(1, 2 * half, 4, spec.vocab_size);
  damaged.prompt[half] = kNanToken;
  const Request neighbour = HealthyRequest(2, 20, 30, spec.vocab_size);
  Request begins_alike = HealthyRequest(3, 2 * half, 4, spec.vocab_size);
  std::copy_n(damaged.prompt.begin(), half, begins_alike.prompt.begin());
  const auto alone = [&](const Request& request) {
    return OutcomeOf(*EngineHarness(spec, options).Run({request})[0]);
  };

  EngineHarness harness(spec, options);
  const auto sinks = harness.AddAll(damaged, 2);
  const auto healthy = harness.Add(neighbour);
  harness.RunUntilIdle();
  for (const auto& sink : sinks) {
    ExpectInternal(*sink);
    EXPECT_TRUE(sink->tokens.empty());
  }
  EXPECT_EQ(healthy->finish->status, absl::OkStatus());
  if (options.device == nullptr) {
    EXPECT_EQ(OutcomeOf(*healthy), alone(neighbour));
  }
  EXPECT_EQ(harness.kv().stats().used_pages, 0);

  const auto later = harness.Run({begins_alike, neighbour});
  EXPECT_EQ(later[0]->finish->status, absl::OkStatus());
  EXPECT_EQ(later[0]->tokens.size(), 4u);
  EXPECT_EQ(OutcomeOf(*later[1]).tokens, OutcomeOf(*healthy).tokens);
  EXPECT_EQ(harness.core().device_status(), absl::OkStatus());
  if (options.device == nullptr) {
    EXPECT_EQ(OutcomeOf(*later[0]), alone(begins_alike));
  }

  // The prompt again finds none of what it left beyond what is healthy.
  ExpectInternal(*harness.Run({damaged})[0]);
}

// The token is drawn, and its key fills a page.
inline void ExpectADamagedDrawEndsAlone(RandomModelSpec spec, HarnessOptions options) {
  spec.nan_token = kNanToken;
  options.prefix_cache = true;
  const auto run = [&](int32_t forced) {
    EngineHarness harness(spec, options);
    Request draws = HealthyRequest(4, options.page_size - 1, 5, spec.vocab_size);
    draws.sampling.logit_bias.clear();
    draws.sampling.allowed_token_ids = {forced};
    const Request neighbour = HealthyRequest(5, 9, 12, spec.vocab_size);
    const auto sinks = harness.Run({draws, neighbour});
    EXPECT_EQ(sinks[1]->finish->status, absl::OkStatus());
    if (options.device == nullptr) {
      EXPECT_EQ(OutcomeOf(*sinks[1]), OutcomeOf(*EngineHarness(spec, options).Run({neighbour})[0]));
    }
    if (forced == kNanToken) {
      ExpectInternal(*sinks[0]);
      EXPECT_EQ(sinks[0]->token_ids(), std::vector<int32_t>{kNanToken});
    }
    return harness.kv().stats().cached_pages;
  };
  const int pages_of_others = run(kNanToken);
  EXPECT_EQ(run(kNanToken + 1), pages_of_others + 1);
}

}  // namespace mea::testing
