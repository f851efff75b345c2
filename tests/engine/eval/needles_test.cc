#include "engine/eval/needles.h"

#include <gtest/gtest.h>

#include <regex>
#include <set>

#include "engine/load.h"
#include "tests/support/checkpoint_writer.h"

namespace mea {
namespace {

constexpr int kLength = 2048;

class NeedlesTest : public ::testing::Test {
 protected:
  Haystack Make(int length, uint64_t seed) const {
    return MakeHaystack(*tokenizer_, filler_, length, seed);
  }

  const std::unique_ptr<Tokenizer> tokenizer_ =
      Tokenizer::Load(MEA_SOURCE_DIR "/models/demo-mha/tokenizer.json").value();
  const Document filler_ =
      tokenizer_->Encode("Lily had a small dog. It liked to run in the park. ");
};

TEST_F(NeedlesTest, EveryFactIsHiddenOnceAndAskedForOnce) {
  const Haystack haystack = Make(kLength, 1);
  ASSERT_EQ(haystack.tokens.size(), size_t{kLength});
  const std::span<const int32_t> tokens = haystack.tokens;
  const auto text = [&](size_t first, size_t count) {
    return tokenizer_->Decode(tokens.subspan(first, count), /*skip_special_tokens=*/true);
  };
  const auto facts_in = [](const std::string& read) {
    std::multiset<std::string> facts;
    const std::regex fact("The secret number of ([A-Z][a-z]+) is ([0-9]{5})\\.");
    for (auto it = std::sregex_iterator(read.begin(), read.end(), fact);
         it != std::sregex_iterator(); ++it) {
      facts.insert(it->str());
    }
    return facts;
  };
  const auto hidden = facts_in(text(0, kLength - haystack.tail));
  EXPECT_EQ(hidden.size(), size_t{kNeedles});
  EXPECT_EQ(std::set<std::string>(hidden.begin(), hidden.end()).size(), size_t{kNeedles});
  const std::string asked = text(kLength - haystack.tail, haystack.tail);
  EXPECT_EQ(facts_in(asked), hidden);
  ASSERT_EQ(haystack.answers.size(), size_t{kNeedles});
  std::set<std::string> numbers;
  for (const Haystack::Answer& answer : haystack.answers) {
    EXPECT_GE(answer.first, kLength - haystack.tail);
    const std::string number = text(answer.first, answer.count);
    EXPECT_TRUE(std::regex_match(number, std::regex(" [0-9]{5}"))) << number;
    numbers.insert(number);
  }
  EXPECT_EQ(numbers.size(), size_t{kNeedles});
}

// At the end they stand in another order, and hidden they are spread over the hay.
TEST_F(NeedlesTest, FactsAreSpreadAndShuffled) {
  const Haystack haystack = Make(kLength, 1);
  const std::string text = tokenizer_->Decode(haystack.tokens, /*skip_special_tokens=*/true);
  std::vector<size_t> first, second;
  for (const Haystack::Answer& answer : haystack.answers) {
    const std::string number =
        tokenizer_->Decode(std::span(haystack.tokens).subspan(answer.first, answer.count), true);
    first.push_back(text.find(number));
    second.push_back(text.rfind(number));
  }
  EXPECT_TRUE(std::ranges::is_sorted(second));
  EXPECT_FALSE(std::ranges::is_sorted(first));
  std::ranges::sort(first);
  for (size_t i = 1; i < first.size(); ++i) EXPECT_LT(first[i] - first[i - 1], text.size() / 6);
  EXPECT_LT(first.front(), text.size() / 10);
}

TEST_F(NeedlesTest, TheSameSeedMakesTheSameHaystack) {
  EXPECT_EQ(Make(kLength, 1).tokens, Make(kLength, 1).tokens);
  EXPECT_NE(Make(kLength, 1).tokens, Make(kLength, 2).tokens);
  EXPECT_TRUE(Make(600, 1).answers.empty());  // too short for so many facts
  EXPECT_TRUE(MakeHaystack(*tokenizer_, {}, kLength, 1).answers.empty());
}

TEST_F(NeedlesTest, TheScoreIsThatOfTheNumbersAlone) {
  testing::TempDir dir;
  testing::WriteRandomCheckpoint(dir.path(), {.vocab_size = 1009, .max_position = kLength + 1}, 1);
  const Checkpoint checkpoint = OpenCheckpoint(dir.path()).value();
  const auto reader = Reader::Create(checkpoint, {.num_threads = 1, .longest = kLength}).value();
  const Haystack haystack = Make(kLength, 3);
  NeedleScore score{.tokens = kLength};
  ScoreHaystack(*reader, haystack, score);
  EXPECT_EQ(score.answers, kNeedles);
  EXPECT_EQ(score.right, 0);  // a random model has no idea

  // By the engine, which reads whole documents: with each number and without.
  const auto backend = CreateCpuBackend({.num_threads = 1}).value();
  const auto model = LoadModel(checkpoint, "auto", backend.get(), {.max_logit_rows = 16}).value();
  const auto kv = CreateKvCache(*backend, model->MakeKvLayout(DType::kF32, 16), 8 << 20).value();
  EngineCore core(model.get(), kv.get(), 4, {});
  double nats = 0;
  for (const Haystack::Answer& answer : haystack.answers) {
    const auto begin = haystack.tokens.begin();
    const Documents read = {{begin, begin + answer.first},
                            {begin, begin + answer.first + answer.count}};
    nats += ScoreDocuments(core, std::span(read).subspan(1)).value().nats -
            ScoreDocuments(core, std::span(read).first(1)).value().nats;
  }
  EXPECT_NEAR(score.nats, nats, 1e-4 * nats);
  EXPECT_DOUBLE_EQ(score.nats_per_answer(), score.nats / kNeedles);

  // A second haystack is added.
  const NeedleScore one = score;
  ScoreHaystack(*reader, haystack, score);
  EXPECT_EQ(score.answers, 2 * kNeedles);
  EXPECT_NEAR(score.nats, 2 * one.nats, 1e-6 * nats);
}

}  // namespace
}  // namespace mea
