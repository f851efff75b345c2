#include "engine/text/detokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

#include "engine/text/utf8.h"
#include "tests/engine/text/golden_data.h"

namespace mea {
namespace {

using Ids = std::vector<int32_t>;

Detokenizer Create(const Tokenizer& tokenizer, DetokenizerOptions options) {
  auto detokenizer = Detokenizer::Create(&tokenizer, std::move(options));
  EXPECT_TRUE(detokenizer.ok()) << detokenizer.status();
  return *std::move(detokenizer);
}

// A stream to its end.
struct Streamed {
  std::string text;
  int stop_index = -1;
  size_t num_tokens = 0;  // pushed, the one that completed a stop string included
};

Streamed Stream(Detokenizer detokenizer, const Ids& ids) {
  Streamed streamed;
  const auto take = [&](const TextDelta& delta) {
    EXPECT_TRUE(IsValidUtf8(delta.text));
    streamed.text += delta.text;
    streamed.stop_index = delta.stop_index;
  };
  for (const int32_t id : ids) {
    take(detokenizer.Push(id));
    ++streamed.num_tokens;
    if (streamed.stop_index >= 0) break;
  }
  take(detokenizer.Finish());
  return streamed;
}

// One token per byte as far as the vocabulary allows, so that strings are cut at every position.
Ids ByteIds(const Tokenizer& tokenizer, const std::string& text) {
  Ids ids;
  for (const char c : text) {
    const std::string one(1, c);
    std::optional<int32_t> found;
    for (int32_t id = 0; id < tokenizer.vocab_size() && !found; ++id) {
      if (tokenizer.TokenBytes(id) == one) found = id;
    }
    EXPECT_TRUE(found.has_value()) << "no token for the byte " << int{static_cast<uint8_t>(c)};
    if (found) ids.push_back(*found);
  }
  return ids;
}

std::string BytesOf(const Tokenizer& tokenizer, std::span<const int32_t> ids) {
  std::string bytes;
  for (const int32_t id : ids) bytes += tokenizer.TokenBytes(id);
  return bytes;
}

class DetokenizerTest : public testing::TestWithParam<const char*> {
 protected:
  const Tokenizer& tokenizer_ = TestTokenizer(GetParam());
};

TEST_P(DetokenizerTest, DeltasOfTextsAddUpToTheWholeDecoding) {
  for (size_t i = 0; i < TestStrings().size(); i += 3) {
    const bool skip = i % 2 == 0;
    const Ids ids = tokenizer_.Encode(TestStrings()[i]);
    ASSERT_EQ(Stream(Create(tokenizer_, {.skip_special_tokens = skip}), ids).text,
              tokenizer_.Decode(ids, skip));
  }
}

TEST_P(DetokenizerTest, DeltasOfRandomIdsAddUpToTheWholeDecoding) {
  for (int i = 0; i < 4000; ++i) {
    const Ids ids = RandomIds(i, tokenizer_.vocab_size() + 5);  // some have no token
    ASSERT_EQ(Stream(Create(tokenizer_, {.skip_special_tokens = i % 3 == 0}), ids).text,
              tokenizer_.Decode(ids, i % 3 == 0))
        << testing::PrintToString(ids);
  }
}

TEST_P(DetokenizerTest, StopStringsThatNeverComeChangeNothing) {
  for (int i = 0; i < 1000; ++i) {
    const Ids ids = RandomIds(i, tokenizer_.vocab_size());
    const std::string whole = tokenizer_.Decode(ids, false);
    DetokenizerOptions options{.skip_special_tokens = false};
    // Each begins like a part of the text.
    for (const size_t size : {1, 3, 12}) {
      size_t begin = whole.empty() ? 0 : (i * 7) % whole.size();
      while (begin > 0 && begin < whole.size() && (whole[begin] & 0xc0) == 0x80) --begin;
      options.stop.push_back(ReplaceInvalidUtf8(whole.substr(begin, size)) + "\U0010fffe");
    }
    ASSERT_EQ(Stream(Create(tokenizer_, options), ids).text, whole);
  }
}

// Finds what Push must find, the plain way: the stop string that is complete first, and of several
// such the longest.
Streamed StopPlainly(const std::string& whole, const DetokenizerOptions& options) {
  size_t best_end = std::string::npos;
  Streamed expected{.text = whole};
  for (size_t i = 0; i < options.stop.size(); ++i) {
    const size_t begin = whole.find(options.stop[i]);
    if (begin == std::string::npos) continue;
    const size_t end = begin + options.stop[i].size();
    const bool longer = expected.stop_index >= 0 &&
                        options.stop[i].size() > options.stop[expected.stop_index].size();
    if (end > best_end || (end == best_end && !longer)) continue;
    best_end = end;
    expected.stop_index = static_cast<int>(i);
    expected.text = whole.substr(0, options.include_stop ? end : begin);
  }
  return expected;
}

TEST_P(DetokenizerTest, TheStopStringThatIsCompleteFirstEndsTheText) {
  for (int i = 0; i < 3000; ++i) {
    TestRandom random(i);
    const Ids ids = tokenizer_.Encode(TestStrings()[random.Below(TestStrings().size())]);
    const std::string whole = tokenizer_.Decode(ids, false);
    DetokenizerOptions options{.include_stop = random.Below(2) == 0, .skip_special_tokens = false};
    for (int s = random.Below(4); s >= 0 && !whole.empty(); --s) {
      size_t begin = random.Below(whole.size());
      size_t end = std::min(whole.size(), begin + 1 + random.Below(8));
      while ((whole[begin] & 0xc0) == 0x80) --begin;
      while (end < whole.size() && (whole[end] & 0xc0) == 0x80) ++end;
      options.stop.push_back(whole.substr(begin, end - begin));
    }
    const Streamed expected = StopPlainly(whole, options);
    const Streamed streamed = Stream(Create(tokenizer_, options), ids);
    ASSERT_EQ(streamed.text, expected.text)
        << testing::PrintToString(whole) << " stops at " << testing::PrintToString(options.stop);
    ASSERT_EQ(streamed.stop_index, expected.stop_index);
    if (expected.stop_index < 0) continue;
    // The token that completes the stop string reports it.
    const std::string& stop = options.stop[expected.stop_index];
    const std::span<const int32_t> pushed(ids.data(), streamed.num_tokens);
    EXPECT_NE(tokenizer_.Decode(pushed, false).find(stop), std::string::npos);
    if (stop.find(kReplacementCharacter) != stop.npos) continue;  // half a code point gives one
    EXPECT_EQ(tokenizer_.Decode(pushed.first(pushed.size() - 1), false).find(stop),
              std::string::npos);
  }
}

TEST_P(DetokenizerTest, AContinuationRepeatsNothingAndLosesNothing) {
  for (size_t i = 0; i < TestStrings().size(); i += 40) {
    const Ids ids = tokenizer_.Encode(TestStrings()[i]);
    const std::string whole = tokenizer_.Decode(ids, false);
    for (size_t cut = 0; cut <= ids.size(); ++cut) {
      const Ids prompt(ids.begin(), ids.begin() + cut), generated(ids.begin() + cut, ids.end());
      if (!IsValidUtf8(BytesOf(tokenizer_, prompt))) continue;  // the prompt cuts a code point
      const std::string before = tokenizer_.Decode(prompt, false);
      Detokenizer detokenizer = Create(tokenizer_, {.skip_special_tokens = false});
      detokenizer.StartAfter(prompt);
      ASSERT_EQ(before + Stream(std::move(detokenizer), generated).text, whole)
          << "after " << testing::PrintToString(before);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, DetokenizerTest, testing::ValuesIn(kTokenizerKinds),
                         [](const auto& kind) { return std::string(kind.param); });

TEST(DetokenizerTest, StopStringsAreFoundWhereverTokensCutThem) {
  const std::string text = "ab\u00e9 \n\nStop: \u4e2d\u6587 and so on";
  for (const char* kind : {"gpt2", "llama3", "qwen2", "llama2", "mistral"}) {
    const Tokenizer& tokenizer = TestTokenizer(kind);
    const bool sentencepiece = tokenizer.TokenToId("<0x0A>").has_value();
    const Ids ids = ByteIds(tokenizer, text);
    const std::string whole = tokenizer.Decode(ids, false);
    ASSERT_EQ(whole, text) << sentencepiece;
    for (size_t begin = 0; begin < text.size(); ++begin) {
      for (size_t end = begin + 1; end <= text.size(); ++end) {
        const std::string stop = text.substr(begin, end - begin);
        if (!IsValidUtf8(stop)) continue;
        const Streamed streamed = Stream(Create(tokenizer, {.stop = {stop}}), ids);
        EXPECT_EQ(streamed.text, text.substr(0, text.find(stop))) << kind << " " << stop;
        EXPECT_EQ(streamed.num_tokens, text.find(stop) + stop.size()) << kind << " " << stop;
      }
    }
  }
}

// Push for Push, with a vocabulary in which every letter is a token.
TEST(DetokenizerTest, WhatMayBeginAStopStringIsHeldBack) {
  const Tokenizer& tokenizer = TestTokenizer("gpt2");
  Detokenizer detokenizer = Create(tokenizer, {.stop = {"abac", "bb"}});
  const std::pair<const char*, const char*> steps[] = {{"x", "x"},    {"a", ""},   {"b", ""},
                                                       {"a", ""},     {"b", "ab"}, {"a", ""},
                                                       {"d", "abad"}, {"b", ""}};
  for (const auto& [token, released] : steps) {
    EXPECT_EQ(detokenizer.Push(*tokenizer.TokenToId(token)).text, released) << token;
  }
  const TextDelta stopped = detokenizer.Push(*tokenizer.TokenToId("b"));
  EXPECT_EQ(stopped.text, "");
  EXPECT_EQ(stopped.stop_index, 1);
  EXPECT_EQ(detokenizer.Push(*tokenizer.TokenToId("x")).text, "");
  EXPECT_EQ(detokenizer.Finish().text, "");
}

TEST(DetokenizerTest, CodePointsComeWhole) {
  const Tokenizer& tokenizer = TestTokenizer("llama3");
  Detokenizer detokenizer = Create(tokenizer, {});
  const Ids ids = ByteIds(tokenizer, "\u4e2d\xe4\xba");
  const char* released[] = {"", "", "\u4e2d", "", ""};
  for (size_t i = 0; i < ids.size(); ++i) EXPECT_EQ(detokenizer.Push(ids[i]).text, released[i]);
  EXPECT_EQ(detokenizer.Finish().text, "\ufffd");
}

// One bad byte makes all of a byte run bad, as with Hugging Face.
TEST(DetokenizerTest, AByteRunIsJudgedWhole) {
  const Tokenizer& tokenizer = TestTokenizer("llama2");
  Detokenizer detokenizer = Create(tokenizer, {});
  for (const char* byte : {"<0xC3>", "<0xA9>", "<0xFF>"}) {
    EXPECT_EQ(detokenizer.Push(*tokenizer.TokenToId(byte)).text, "");
  }
  EXPECT_EQ(detokenizer.Push(*tokenizer.TokenToId("a")).text, "\ufffd\ufffd\ufffda");
}

TEST(DetokenizerTest, AStopStringEndsAByteRun) {
  const Tokenizer& tokenizer = TestTokenizer("llama2");
  Detokenizer detokenizer = Create(tokenizer, {.stop = {"\n"}});
  EXPECT_EQ(detokenizer.Push(*tokenizer.TokenToId("<0xC3>")).stop_index, -1);
  EXPECT_EQ(detokenizer.Push(*tokenizer.TokenToId("<0xA9>")).stop_index, -1);
  const TextDelta delta = detokenizer.Push(*tokenizer.TokenToId("<0x0A>"));
  EXPECT_EQ(delta.stop_index, 0);
  EXPECT_EQ(delta.text, "\u00e9");
}

TEST(DetokenizerTest, AContinuationKeepsItsSpace) {
  for (const char* kind : {"llama2", "mistral", "unknown"}) {
    const Tokenizer& tokenizer = TestTokenizer(kind);
    const Ids free = {*tokenizer.TokenToId("▁and")};
    EXPECT_EQ(Stream(Create(tokenizer, {}), free).text, "and") << kind;
    Detokenizer continued = Create(tokenizer, {});
    continued.StartAfter(tokenizer.Encode("born"));
    EXPECT_EQ(Stream(std::move(continued), free).text, " and") << kind;
    // A prompt of nothing but skipped tokens is no text.
    Detokenizer begun = Create(tokenizer, {});
    begun.StartAfter(Ids{*tokenizer.TokenToId("<s>")});
    EXPECT_EQ(Stream(std::move(begun), free).text, "and") << kind;
  }
}

TEST(DetokenizerTest, ACodePointThatThePromptLeavesOpenIsFinished) {
  for (const char* kind : {"llama2", "llama3"}) {
    const Tokenizer& tokenizer = TestTokenizer(kind);
    const Ids ids = ByteIds(tokenizer, "a\u00e9\u4e2d");
    Detokenizer detokenizer = Create(tokenizer, {});
    detokenizer.StartAfter(std::span(ids).first(4));  // a, é and a third of 中
    EXPECT_EQ(Stream(std::move(detokenizer), Ids(ids.begin() + 4, ids.end())).text, "\u4e2d");
  }
}

TEST(DetokenizerTest, ThePromptHoldsNoStopString) {
  const Tokenizer& tokenizer = TestTokenizer("gpt2");
  Detokenizer detokenizer = Create(tokenizer, {.stop = {"ab"}});
  detokenizer.StartAfter(Ids{*tokenizer.TokenToId("a")});
  EXPECT_EQ(detokenizer.Push(*tokenizer.TokenToId("b")).text, "b");
}

TEST(DetokenizerTest, ASpecialTokenIsAStopStringThatItsTextIs) {
  for (const char* kind : kTokenizerKinds) {
    const Tokenizer& tokenizer = TestTokenizer(kind);
    const int32_t end = *tokenizer.TokenToId("<|im_end|>");
    Ids ids = tokenizer.Encode("so <", {.add_special_tokens = false});
    const std::string text = tokenizer.Decode(ids, true);
    ids.insert(ids.end(), {end, ids.front()});
    const Streamed plain = Stream(Create(tokenizer, {.stop = {"no", "<|im_end|>"}}), ids);
    EXPECT_EQ(plain.text, text) << kind;
    EXPECT_EQ(plain.stop_index, 1) << kind;
    EXPECT_EQ(plain.num_tokens, ids.size() - 1) << kind;
    EXPECT_EQ(Stream(Create(tokenizer, {.stop = {"<|im_end|>"}, .include_stop = true}), ids).text,
              text + "<|im_end|>")
        << kind;
    // Another one does not end the text, nor does a part of it.
    EXPECT_EQ(Stream(Create(tokenizer, {.stop = {"<|im_start|>", "im_end"}}), ids).stop_index, -1);
    // Where the text shows it, it is found there.
    const Streamed shown =
        Stream(Create(tokenizer, {.stop = {"<|im_end|>"}, .skip_special_tokens = false}), ids);
    EXPECT_EQ(shown.stop_index, 0) << kind;
  }
}

TEST(DetokenizerTest, AStopStringThatIsCompleteBeforeMinTokensIsText) {
  const std::string text = "abxababxbab";
  const std::vector<std::string> stop = {"ab", "xab", "b"};
  for (const char* kind : {"gpt2", "llama3", "qwen2", "llama2", "mistral"}) {
    const Tokenizer& tokenizer = TestTokenizer(kind);
    const Ids ids = ByteIds(tokenizer, text);
    for (size_t min_tokens = 0; min_tokens <= text.size(); ++min_tokens) {
      size_t end = text.find('b', min_tokens);  // of all three
      const size_t length = end == text.npos                     ? 0
                            : text.compare(end - 1, 1, "a") != 0 ? 1
                            : end >= 2 && text[end - 2] == 'x'   ? 3
                                                                 : 2;
      const size_t kept = end == text.npos ? text.size() : end + 1 - length;
      const int min = static_cast<int>(min_tokens);
      EXPECT_EQ(Stream(Create(tokenizer, {.stop = stop, .min_tokens = min}), ids).text,
                text.substr(0, kept))
          << kind << " " << min_tokens;
    }
  }
}

TEST(DetokenizerTest, AStopStringThatIsNoneIsNotHeldBack) {
  const Tokenizer& tokenizer = TestTokenizer("gpt2");
  Detokenizer detokenizer = Create(tokenizer, {.stop = {"ab"}, .min_tokens = 5});
  std::string text;
  for (const int32_t id : ByteIds(tokenizer, "ab")) text += detokenizer.Push(id).text;
  EXPECT_EQ(text, "ab");
}

// Quadratic work would take an hour here.
TEST(DetokenizerTest, LongStreamsTakeNoQuadraticTime) {
  for (const char* kind : kTokenizerKinds) {
    const Tokenizer& tokenizer = TestTokenizer(kind);
    DetokenizerOptions options;
    for (int i = 0; i < 16; ++i) {
      options.stop.push_back(std::string(200 + i, 'a') + (i % 2 == 0 ? "b" : " b"));
    }
    // A byte of a run that no code point ends, a letter that stop strings begin with, a space.
    for (const std::string piece : {"<0x80>", "<0xE2>", "a", " ", "\u2581"}) {
      const std::optional<int32_t> id = tokenizer.TokenToId(piece);
      if (!id) continue;
      const Streamed streamed = Stream(Create(tokenizer, options), Ids(500'000, *id));
      EXPECT_EQ(streamed.stop_index, -1) << kind;
      EXPECT_EQ(streamed.text, tokenizer.Decode(Ids(500'000, *id), true)) << kind << piece;
    }
  }
}

TEST(DetokenizerTest, BadStopStringsAreRefusedByName) {
  const Tokenizer& tokenizer = TestTokenizer("gpt2");
  const auto message = [&](std::vector<std::string> stop) {
    return std::string(Detokenizer::Create(&tokenizer, {.stop = stop}).status().message());
  };
  EXPECT_EQ(message({"a", ""}), "stop[1] is empty");
  EXPECT_EQ(message({"\xff"}), "stop[0] is not UTF-8");
  EXPECT_EQ(message({std::string(5000, 'a')}), "stop[0] has 5000 bytes, at most 4096 are allowed");
  EXPECT_EQ(message(std::vector<std::string>(65, "a")),
            "stop has 65 strings, at most 64 are allowed");
}

}  // namespace
}  // namespace mea
