// Work on a text is counted, grows with its size, and stops when it is told to.
#include "engine/text/text_work.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "engine/text/tokenizer.h"
#include "tests/engine/text/golden_data.h"

namespace mea {
namespace {

using Json = nlohmann::json;

// Texts that some step may take badly, of about that many bytes.
std::vector<std::pair<std::string, std::string>> AdversarialTexts(size_t bytes) {
  const auto repeat = [bytes](std::string_view unit) {
    std::string text;
    while (text.size() < bytes) text += unit;
    return text;
  };
  TestRandom random(1);
  std::string letters;
  while (letters.size() < bytes) letters.push_back(static_cast<char>('a' + random.Below(26)));
  return {{"marks", absl::StrCat("a", repeat("\u0315\u0300"))},
          {"marks in order", absl::StrCat("a", repeat("\u0300"))},
          {"jamo", absl::StrCat("\u1100", repeat("\u1161"))},
          {"one letter", repeat("a")},
          {"capitals", repeat("A")},
          {"letters", letters},
          {"digits", repeat("7")},
          {"spaces", repeat(" ")},
          {"spaces and a letter", absl::StrCat(repeat(" "), "a")},
          {"newlines", repeat("\n")},
          {"spaces and newlines", absl::StrCat(repeat(" "), "\n", repeat(" "))},
          {"blanks in turn", repeat(" \n\t\r")},
          {"punctuation", repeat("!")},
          {"metaspaces", repeat("\u2581")},
          {"ideographs", repeat("\u4e2d\u6587")},
          {"syllables", repeat("\uac01")},
          {"ligatures", repeat("\ufdfa")},
          {"emoji", repeat("\U0001f600")},
          {"apostrophes", repeat("'l")},
          {"beginnings of tokens", repeat("<|im_")},
          {"tokens", repeat("<|im_end|>")},
          {"tokens and spaces", repeat("<|im_end|>  ")},
          {"tokens and a word", repeat("<tool>a")},
          {"broken bytes", repeat("\xed\xa0\x80\xff")}};
}

Json WithNormalizer(const Json& normalizer) {
  Json json = Json::parse(ReadTestData("qwen2.json"));
  json["normalizer"] = normalizer;
  return json;
}

Json WithSplit(const std::string& pattern, const std::string& behavior = "Isolated") {
  Json json = Json::parse(ReadTestData("qwen2.json"));
  json["pre_tokenizer"]["pretokenizers"][0] = {{"type", "Split"},
                                               {"pattern", {{"Regex", pattern}}},
                                               {"behavior", behavior},
                                               {"invert", false}};
  return json;
}

Json WithAddedToken(const char* flag) {
  Json json = Json::parse(ReadTestData("qwen2.json"));
  for (auto& token : json["added_tokens"]) token[flag] = true;
  return json;
}

// Every normalizer, and the patterns of published models.
std::vector<std::pair<std::string, Json>> Tokenizers() {
  std::vector<std::pair<std::string, Json>> result;
  for (const char* kind : kTokenizerKinds) {
    result.emplace_back(kind, Json::parse(ReadTestData(std::string(kind) + ".json")));
  }
  for (const char* form : {"NFC", "NFD", "NFKC", "NFKD", "Lowercase"}) {
    result.emplace_back(form, WithNormalizer({{"type", form}}));
  }
  result.emplace_back(
      "Strip", WithNormalizer({{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}}));
  result.emplace_back(
      "Replace",
      WithNormalizer({{"type", "Replace"}, {"pattern", {{"String", "  "}}}, {"content", " "}}));
  result.emplace_back("Replace by a pattern", WithNormalizer({{"type", "Replace"},
                                                              {"pattern", {{"Regex", " {2,}"}}},
                                                              {"content", "\u2581"}}));
  result.emplace_back(
      "DeepSeek V3",
      WithSplit("[!\"#$%&'()*+,\\-./"
                ":;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
                "?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"));
  result.emplace_back(
      "gpt-oss",
      WithSplit("[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}"
                "\\p{M}]+"
                "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}"
                "\\p{M}]+"
                "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| "
                "?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"));
  for (const char* behavior : {"Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"}) {
    result.emplace_back(behavior, WithSplit("\\s", behavior));
  }
  for (const char* flag : {"lstrip", "rstrip", "single_word", "normalized"}) {
    result.emplace_back(flag, WithAddedToken(flag));
  }
  return result;
}

int64_t StepsOf(const Tokenizer& tokenizer, const std::string& text) {
  TextWork work;
  const auto ids = tokenizer.Encode(text, {}, work);
  EXPECT_TRUE(ids.ok());
  int64_t steps = work.steps();
  EXPECT_GE(steps, static_cast<int64_t>(text.size()));
  TextWork decoding;
  EXPECT_TRUE(tokenizer.Decode(*ids, false, decoding).ok());
  EXPECT_GE(decoding.steps(), std::ssize(*ids));
  return steps + decoding.steps();
}

TEST(TextWorkTest, DoublesWithTheText) {
  constexpr size_t kBytes = 20'000;
  const auto once = AdversarialTexts(kBytes), twice = AdversarialTexts(2 * kBytes);
  for (const auto& [name, json] : Tokenizers()) {
    const auto tokenizer = Tokenizer::Parse(json.dump(), name);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    for (size_t i = 0; i < once.size(); ++i) {
      const int64_t steps = StepsOf(**tokenizer, once[i].second);
      EXPECT_LT(StepsOf(**tokenizer, twice[i].second), 2.2 * steps)
          << name << ", " << once[i].first;
      EXPECT_LT(steps, 200 * std::ssize(once[i].second)) << name << ", " << once[i].first;
    }
  }
}

// Each group of three looks at all that follow.
const char kGroupsOfThree[] = "\\p{N}{1,3}(?=(?:\\p{N}{3})*(?:\\P{N}|$))|\\P{N}+";

TEST(TextWorkTest, APatternThatReadsOnAndOnIsCounted) {
  const auto tokenizer = *Tokenizer::Parse(WithSplit(kGroupsOfThree).dump(), "groups");
  const std::string digits(20'000, '7');
  TextWork all;
  ASSERT_TRUE(tokenizer->Encode(digits, {}, all).ok());
  EXPECT_GT(all.steps(), 50'000'000);

  const auto wanted = [] { return absl::OkStatus(); };
  TextWork bounded(wanted, 10'000'000);
  const auto ids = tokenizer->Encode(digits, {}, bounded);
  EXPECT_EQ(ids.status(), absl::InvalidArgumentError("takes more than 10000000 steps"));
  EXPECT_LT(bounded.steps(), 10'200'000);
  TextWork short_one(wanted, 10'000'000);
  EXPECT_TRUE(tokenizer->Encode(digits.substr(0, 3'000), {}, short_one).ok());
}

// Wherever the answer comes, little is done after it.
TEST(TextWorkTest, StopsWhereverItIs) {
  constexpr int64_t kMostBetweenQuestions = 150'000;
  for (const auto& [name, json] : Tokenizers()) {
    const auto tokenizer = Tokenizer::Parse(json.dump(), name);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    for (const auto& [what, text] : AdversarialTexts(60'000)) {
      int64_t num_questions = 0;
      const auto count = [&] {
        ++num_questions;
        return absl::OkStatus();
      };
      TextWork whole(count);
      ASSERT_TRUE((*tokenizer)->Encode(text, {}, whole).ok());
      ASSERT_GE(num_questions, whole.steps() / kMostBetweenQuestions) << name << ", " << what;
      const int64_t stop_at = num_questions / 2;
      int64_t asked = 0;
      const auto stop = [&]() -> absl::Status {
        if (asked++ < stop_at) return absl::OkStatus();
        return absl::CancelledError("gone");
      };
      TextWork half(stop);
      EXPECT_EQ((*tokenizer)->Encode(text, {}, half).status(), absl::CancelledError("gone"));
      EXPECT_EQ(asked, stop_at + 1) << name << ", " << what;
      EXPECT_LT(half.steps(), whole.steps()) << name << ", " << what;
    }
  }
}

TEST(TextWorkTest, NothingIsDoneForWhoIsGone) {
  const auto gone = [] { return absl::DeadlineExceededError("late"); };
  TextWork work(gone);
  EXPECT_TRUE(absl::IsDeadlineExceeded(TestTokenizer("llama2").Encode("a", {}, work).status()));
  TextWork decoding(gone);
  const std::vector<int32_t> ids = {5, 6};
  EXPECT_TRUE(
      absl::IsDeadlineExceeded(TestTokenizer("llama2").Decode(ids, true, decoding).status()));
  EXPECT_EQ(decoding.steps() > 0, true);
}

}  // namespace
}  // namespace mea
