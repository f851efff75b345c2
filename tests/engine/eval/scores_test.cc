#include "engine/eval/scores.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "engine/load.h"

namespace mea {
namespace {

constexpr char kModel[] = MEA_SOURCE_DIR "/models/demo-mea";

class EvalTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const Checkpoint checkpoint = OpenCheckpoint(kModel).value();
    end_tokens_ = checkpoint.generation.eos_token_ids;
    tokenizer_ = Tokenizer::Load(std::string(kModel) + "/tokenizer.json").value();
    backend_ = CreateCpuBackend().value();
    model_ = LoadModel(checkpoint, "auto", backend_.get(), {.max_logit_rows = 16}).value();
    kv_ = CreateKvCache(*backend_, model_->MakeKvLayout(DType::kF32, 16), 8 << 20).value();
    core_ = std::make_unique<EngineCore>(model_.get(), kv_.get(), 16, end_tokens_);
  }
  TextScore Score(std::string_view text) {
    return ScoreText(*core_, *tokenizer_, text, end_tokens_).value();
  }

  std::vector<int32_t> end_tokens_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<KvCache> kv_;
  std::unique_ptr<EngineCore> core_;
};

TEST_F(EvalTest, DocumentsAreScoredApart) {
  const std::string first = "Once upon a time there was a boy.<|endoftext|>";
  const std::string second = "37+14=51\n";
  const TextScore a = Score(first);
  const TextScore b = Score(second);
  const TextScore both = Score(first + second);
  EXPECT_EQ(both.num_tokens, a.num_tokens + b.num_tokens);
  EXPECT_NEAR(both.nats, a.nats + b.nats, 1e-9);
  EXPECT_EQ(a.num_tokens,
            static_cast<int64_t>(tokenizer_->Encode(first, {.add_special_tokens = false}).size()));
}

TEST_F(EvalTest, RequestsAreCountedBeforeThereIsAnEngine) {
  const std::string text = "Once upon a time there was a boy.<|endoftext|>37+14=51";
  const auto length = [&](std::string_view part) {
    return static_cast<int>(tokenizer_->Encode(part).size());
  };
  const int longer = length("Once upon a time there was a boy.<|endoftext|>");
  EvalRequests requests = RequestsOfText(*tokenizer_, text, end_tokens_, 512).value();
  EXPECT_EQ(requests.count, 2);
  EXPECT_EQ(requests.longest, longer + 1);
  requests = RequestsOfText(*tokenizer_, text, end_tokens_, 5).value();
  EXPECT_GT(requests.count, 3);
  EXPECT_EQ(requests.longest, 5);
  const std::vector<Question> questions = {{"1+1=", "2"}, {"37+14=", "51\n"}};
  requests = RequestsOfTask(*tokenizer_, questions);
  EXPECT_EQ(requests.count, 2);
  EXPECT_GE(requests.longest, length("37+14=") + 2);
  EXPECT_LE(requests.longest, length("37+14=51\n") + 2);
}

TEST_F(EvalTest, LongDocumentsAreCutIntoWindowsThatPredictEveryTokenOnce) {
  std::string text;
  for (int i = 0; i < 200; ++i) text += "Lily had a small dog. ";
  const TextScore score = Score(text);
  const auto ids = tokenizer_->Encode(text, {.add_special_tokens = false});
  ASSERT_GT(ids.size(), 1024u);
  EXPECT_EQ(score.num_tokens, static_cast<int64_t>(ids.size()));
  EXPECT_TRUE(std::isfinite(score.nats));
  EXPECT_EQ(kv_->stats().used_pages, 0);
}

TEST_F(EvalTest, AnEmptyTextIsRefused) {
  EXPECT_EQ(ScoreText(*core_, *tokenizer_, "", end_tokens_).status().message(),
            "the text has no token to predict");
}

TEST_F(EvalTest, TheDemoModelRecallsWhatItReadAndNotWhatItDidNot) {
  const std::string prompt =
      "The code of Ada is 4831.\nThe code of Ben is 2207.\nWhat is the code of Ben?";
  const std::vector<Question> questions = {{prompt, " 2207"}, {prompt, " 4831"}};
  const TaskScore score = ScoreTask(*core_, *tokenizer_, questions).value();
  EXPECT_EQ(score.num_questions, 2);
  EXPECT_EQ(score.num_correct, 1);
}

// An end token is a token like any other there.
TEST_F(EvalTest, GreedyContinuationsAreTheLikeliestTokensWhateverTheyAre) {
  const Documents prompts = {tokenizer_->Encode("37+14=51\n"), tokenizer_->Encode("Once upon a")};
  const Documents found = ContinueGreedily(*core_, prompts, 300).value();
  ASSERT_EQ(found.size(), 2u);
  bool has_end = false;
  for (size_t i = 0; i < 2; ++i) {
    ASSERT_EQ(found[i].size(), 300u);
    has_end = has_end || std::ranges::find(found[i], end_tokens_[0]) != found[i].end();
    // The loss of what was found is the least for its first token.
    Document read = prompts[i];
    read.push_back(found[i][0]);
    const double least = ScoreDocuments(*core_, std::span(&read, 1)).value().nats;
    for (const int32_t other : {found[i][0] + 1, found[i][0] + 2}) {
      read.back() = other;
      EXPECT_LT(least, ScoreDocuments(*core_, std::span(&read, 1)).value().nats);
    }
  }
  EXPECT_TRUE(has_end);
}

TEST(ReadQuestionsTest, BrokenLinesAreNamed) {
  const std::string path = ::testing::TempDir() + "/questions.jsonl";
  const auto message_of = [&](const std::string& text) {
    std::ofstream(path) << text;
    return std::string(ReadQuestions(path).status().message());
  };
  EXPECT_EQ(message_of(""), path + ": no questions");
  EXPECT_EQ(message_of("{\"prompt\": \"a\"}\n"),
            path + ":1: \"answer\" is not a string of an object");
  EXPECT_EQ(message_of("{\"prompt\": \"a\", \"answer\": \"b\"}\n[1]\n"),
            path + ":2: \"prompt\" is not a string of an object");
  EXPECT_EQ(message_of("{"), path + ":1: \"prompt\" is not a string of an object");
  EXPECT_EQ(ReadQuestions("/nowhere/q.jsonl").status().message(),
            "/nowhere/q.jsonl: cannot be read");
}

}  // namespace
}  // namespace mea
