#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/engine_harness.h"

namespace mea::testing {

// What must never depend on anything but the request: its tokens and their logprobs, to the last
// bit.
struct Outcome {
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;
  std::vector<float> prompt_logprobs;
  bool operator==(const Outcome&) const = default;
};

inline Outcome OutcomeOf(const RecordingSink& sink) {
  EXPECT_TRUE(sink.finish.has_value());
  return {sink.token_ids(), sink.logprobs(), sink.prompt_logprobs};
}

// 64 requests of mixed lengths; every other one is sampled, and some want prompt logprobs.
inline std::vector<Request> MixedRequests(int count, int vocab_size) {
  std::vector<Request> requests;
  for (int i = 0; i < count; ++i) {
    Request request = RandomRequest(100 + i, 1 + (i * 37) % 90, 2 + (i * 7) % 30, vocab_size);
    if (i % 2 == 1) {
      request.sampling = {.temperature = 0.9f,
                          .top_k = i % 3 == 0 ? 20 : 0,
                          .top_p = 0.95f,
                          .repetition_penalty = 1.1f,
                          .seed = static_cast<uint64_t>(i)};
    }
    request.prompt_logprobs = i % 5 == 0;
    requests.push_back(std::move(request));
  }
  return requests;
}

inline std::vector<Request> SeparateRequests(const Request& request, int n) {
  std::vector<Request> separate(n, request);
  for (int i = 0; i < n; ++i) {
    separate[i].id = absl::StrCat(request.id, "-", i);
    separate[i].sampling.seed += i;
    separate[i].prompt_logprobs &= i == 0;
  }
  return separate;
}

}  // namespace mea::testing
