#include "server/bench/prompts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

namespace mea {
namespace {

using ::testing::ElementsAre;

std::vector<int32_t> Head(const BenchRequest& request, int count) {
  return {request.token_ids.begin(), request.token_ids.begin() + count};
}

TEST(PromptsTest, RandomPromptsKeepTheirRanges) {
  const auto prompts = Prompts::Create(
      {.input = {.low = 3, .high = 6}, .output = {.low = 2, .high = 4}, .vocab_size = 10});
  ASSERT_TRUE(prompts.ok());
  std::set<size_t> lengths;
  std::set<int> outputs;
  for (int i = 0; i < 200; ++i) {
    const BenchRequest request = prompts->Make(i);
    lengths.insert(request.token_ids.size());
    outputs.insert(request.max_tokens);
    for (const int32_t id : request.token_ids) EXPECT_TRUE(id >= 0 && id < 10);
    EXPECT_EQ(request.text, "");
    EXPECT_EQ(request.cancel_after, 0);
  }
  EXPECT_THAT(lengths, ElementsAre(3, 4, 5, 6));
  EXPECT_THAT(outputs, ElementsAre(2, 3, 4));
}

TEST(PromptsTest, RequestDependsOnSeedAndNumberAlone) {
  PromptOptions options{.vocab_size = 1000};
  const auto one = Prompts::Create(options);
  const auto same = Prompts::Create(options);
  options.seed = 2;
  const auto other = Prompts::Create(options);
  for (const int64_t number : {int64_t{7}, int64_t{3}, int64_t{1} << 40}) {
    EXPECT_EQ(one->Make(number).token_ids, same->Make(number).token_ids);
    EXPECT_NE(one->Make(number).token_ids, other->Make(number).token_ids);
  }
  EXPECT_NE(one->Make(0).token_ids, one->Make(1).token_ids);
  EXPECT_NE(one->Make(0).token_ids, one->Make(int64_t{1} << 32).token_ids);
}

TEST(PromptsTest, NoRoundRepeatsAPromptOrPrefixOfAnother) {
  PromptOptions options{.input = {.low = 8, .high = 8}, .prefix_tokens = 20, .vocab_size = 1000};
  std::set<std::vector<int32_t>> prefixes, whole;
  for (int round = 0; round < 3; ++round) {
    options.round = round;
    const auto prompts = Prompts::Create(options);
    for (int i = 0; i < 20; ++i) {
      const BenchRequest request = prompts->Make(i);
      prefixes.insert(Head(request, 20));
      whole.insert(request.token_ids);
    }
  }
  EXPECT_EQ(prefixes.size(), 3u);
  EXPECT_EQ(whole.size(), 60u);
}

TEST(PromptsTest, WithoutAVocabularyTheyAreWords) {
  const auto prompts = Prompts::Create({.input = {.low = 5, .high = 5}});
  const BenchRequest request = prompts->Make(0);
  EXPECT_EQ(std::count(request.text.begin(), request.text.end(), ' '), 4);
  EXPECT_TRUE(request.token_ids.empty());
}

TEST(PromptsTest, SharedPrefixesAreSharedAndWhatFollowsIsNot) {
  const auto prompts = Prompts::Create(
      {.input = {.low = 8, .high = 8}, .prefix_tokens = 50, .num_prefixes = 3, .vocab_size = 1000});
  std::set<std::vector<int32_t>> prefixes, whole;
  for (int i = 0; i < 40; ++i) {
    const BenchRequest request = prompts->Make(i);
    ASSERT_EQ(request.token_ids.size(), 58u);
    prefixes.insert(Head(request, 50));
    whole.insert(request.token_ids);
  }
  EXPECT_EQ(prefixes.size(), 3u);
  EXPECT_EQ(whole.size(), 40u);
}

TEST(PromptsTest, CancelsTheShareThatWasAskedForBeforeTheLastToken) {
  const auto prompts = Prompts::Create({.output = {.low = 5, .high = 9}, .cancel_rate = 0.25});
  int cancelled = 0;
  for (int i = 0; i < 4000; ++i) {
    const BenchRequest request = prompts->Make(i);
    if (request.cancel_after == 0) continue;
    ++cancelled;
    EXPECT_LT(request.cancel_after, request.max_tokens);
  }
  EXPECT_NEAR(cancelled, 1000, 100);
}

class PromptFileTest : public ::testing::Test {
 protected:
  ~PromptFileTest() override { std::filesystem::remove(path_); }
  absl::StatusOr<Prompts> Read(const std::string& text) {
    std::ofstream(path_) << text;
    return Prompts::Create({.file = path_, .output = {.low = 11, .high = 11}});
  }
  const std::string path_ = ::testing::TempDir() + "mea_prompts_" + std::to_string(getpid());
};

TEST_F(PromptFileTest, LinesAreTakenInOrderAndAgain) {
  const auto prompts = Read("{\"prompt\": \"hey\"}\n\n{\"prompt\": [1, 2], \"max_tokens\": 5}\n");
  ASSERT_TRUE(prompts.ok()) << prompts.status();
  for (const int64_t first : {0, 2}) {
    EXPECT_EQ(prompts->Make(first).text, "hey");
    EXPECT_EQ(prompts->Make(first).max_tokens, 11);
    EXPECT_THAT(prompts->Make(first + 1).token_ids, ElementsAre(1, 2));
    EXPECT_EQ(prompts->Make(first + 1).max_tokens, 5);
  }
}

TEST_F(PromptFileTest, BadLinesAreNamed) {
  const std::string good = "{\"prompt\": \"hey\"}\n";
  for (const auto& [line, complaint] : std::vector<std::pair<std::string, std::string>>{
           {"hey", "is no JSON object"},
           {"{}", "has no \"prompt\" of text or token ids"},
           {"{\"prompt\": []}", "has no \"prompt\" of text or token ids"},
           {"{\"prompt\": [\"a\"]}", "has token id \"a\""},
           {"{\"prompt\": \"a\", \"max_tokens\": 0}", "has max_tokens 0"}}) {
    EXPECT_EQ(Read(good + line + "\n").status().message(), path_ + " line 2 " + complaint);
  }
  EXPECT_EQ(Read("\n").status().message(), path_ + " holds no prompt");
  EXPECT_TRUE(absl::IsNotFound(Prompts::Create({.file = "/nonexistent"}).status()));
}

TEST(LengthRangeTest, IsANumberOrTwo) {
  EXPECT_EQ(ParseLengthRange("--x", "7")->high, 7);
  EXPECT_EQ(ParseLengthRange("--x", "3:9")->low, 3);
  EXPECT_EQ(ParseLengthRange("--x", "3:9")->high, 9);
  for (const char* bad : {"", "0", "9:3", "1:2:3", "a", "1:", "-4"}) {
    EXPECT_EQ(ParseLengthRange("--x", bad).status().message(),
              "--x '" + std::string(bad) + "' is neither N nor LOW:HIGH with 1 <= LOW <= HIGH");
  }
}

}  // namespace
}  // namespace mea
