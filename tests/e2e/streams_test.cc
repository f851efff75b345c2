#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "tests/e2e/served_model.h"

namespace mea::testing {
namespace {

constexpr int kNumStreams = 64;

// Mixed prompts, lengths and ways of sampling.
v1::GenerateRequest MixedRequest(int i) {
  static const std::vector<std::string> kPrompts = {
      "One day",
      "the code of Ada is 4831. ",
      "Tom had a small dog. ",
      "12+30=",
  };
  v1::GenerateRequest request;
  std::string text;
  for (int repeat = 0; repeat <= i % 7; ++repeat) text += kPrompts[(i + repeat) % kPrompts.size()];
  request.set_text(text);
  request.mutable_stopping()->set_max_tokens(8 + i % 40);
  request.mutable_stopping()->set_ignore_eos(true);
  request.mutable_response()->set_logprobs(0);
  v1::SamplingParams& sampling = *request.mutable_sampling();
  sampling.set_temperature(i % 2 == 0 ? 0.0f : 0.8f);
  sampling.set_top_p(0.95f);
  sampling.set_seed(i);
  return request;
}

class StreamsTest : public ::testing::TestWithParam<std::string> {};

TEST_P(StreamsTest, ConcurrentStreamsEqualEachAloneToTheLastBit) {
  ServedModel served(GetParam());
  std::vector<Streamed> together(kNumStreams);
  std::vector<std::thread> clients;
  for (int i = 0; i < kNumStreams; ++i) {
    clients.emplace_back([&, i] { together[i] = Stream(served.inference(), MixedRequest(i)); });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(served.CacheStats().used_bytes(), 0);

  for (int i = 0; i < kNumStreams; ++i) {
    const Streamed alone = Stream(served.inference(), MixedRequest(i));
    EXPECT_TRUE(together[i].status.ok()) << together[i].status.error_message();
    EXPECT_EQ(together[i], alone) << "stream " << i;
    EXPECT_EQ(alone.token_ids.size(), 8u + i % 40);
    EXPECT_EQ(together[i].finish.usage().completion_tokens(), 8 + i % 40);
  }
  EXPECT_EQ(served.CacheStats().used_bytes(), 0);
}

TEST_P(StreamsTest, UnaryEqualsStream) {
  ServedModel served(GetParam());
  for (int i = 0; i < 4; ++i) {
    const v1::GenerateRequest request = MixedRequest(i);
    const Streamed streamed = Stream(served.inference(), request);
    grpc::ClientContext context;
    v1::GenerateResponse response;
    ASSERT_TRUE(served.inference().Generate(&context, request, &response).ok());
    ASSERT_EQ(response.completions_size(), 1);
    EXPECT_EQ(response.completions(0).text(), streamed.text);
    EXPECT_EQ(std::vector<int32_t>(response.completions(0).token_ids().begin(),
                                   response.completions(0).token_ids().end()),
              streamed.token_ids);
  }
}

TEST_P(StreamsTest, CancelledStreamsLeakNoPageAndDisturbNobody) {
  const uint64_t seed = 11;
  SCOPED_TRACE(seed);
  ServedModel served(GetParam());
  const Streamed expected = Stream(served.inference(), MixedRequest(5));
  std::mt19937_64 random(seed);
  std::vector<std::thread> clients;
  std::vector<Streamed> kept(8);
  for (int i = 0; i < 40; ++i) {
    const int cancel_after = 1 + static_cast<int>(random() % 20);
    clients.emplace_back([&, i, cancel_after] {
      if (i % 5 == 0) {
        kept[i / 5] = Stream(served.inference(), MixedRequest(5));
        return;
      }
      v1::GenerateRequest request = MixedRequest(i);
      request.mutable_stopping()->set_max_tokens(400);
      const Streamed cut =
          Stream(served.inference(), request, [&](grpc::ClientContext& context, int num_deltas) {
            if (num_deltas == cancel_after) context.TryCancel();
          });
      EXPECT_EQ(cut.status.error_code(), grpc::StatusCode::CANCELLED);
    });
  }
  for (std::thread& client : clients) client.join();
  for (const Streamed& streamed : kept) EXPECT_EQ(streamed, expected);
  // The server learns of a cancellation a moment after the client has turned away.
  for (int i = 0; i < 200 && served.CacheStats().used_bytes() > 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(served.CacheStats().used_bytes(), 0);
}

INSTANTIATE_TEST_SUITE_P(Models, StreamsTest, ::testing::Values("demo-mea", "demo-mha"),
                         [](const auto& model) { return model.param.substr(5); });

}  // namespace
}  // namespace mea::testing
