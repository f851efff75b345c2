#include "engine/text/regex.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "engine/text/regex_syntax.h"
#include "engine/text/utf8.h"

namespace mea {
namespace {

using testing::ElementsAre;

// The parts of `text`, matches in brackets.
std::vector<std::string> Split(const std::string& pattern, std::string_view text) {
  const absl::StatusOr<Regex> regex = Regex::Compile(pattern);
  if (!regex.ok()) return {std::string(regex.status().message())};
  std::vector<TextSpan> spans;
  TextWork work;
  regex->Split(text, work, &spans);
  std::vector<std::string> parts;
  for (const TextSpan& span : spans) {
    const std::string part(text.substr(span.begin, span.end - span.begin));
    parts.push_back(span.is_match ? "[" + part + "]" : part);
  }
  return parts;
}

bool Matches(const std::string& pattern, char32_t c) {
  std::string text;
  AppendUtf8(c, &text);
  return Split(pattern, text) == std::vector<std::string>{"[" + text + "]"};
}

TEST(RegexTest, PartsCoverTheText) {
  EXPECT_THAT(Split("b+", "abbcb"), ElementsAre("a", "[bb]", "c", "[b]"));
  EXPECT_THAT(Split("z", "abc"), ElementsAre("abc"));
  EXPECT_THAT(Split("a", ""), ElementsAre());
}

TEST(RegexTest, EmptyMatchesSeparate) {
  EXPECT_THAT(Split("x*", "axb"), ElementsAre("[]", "a", "[x]", "b", "[]"));
  EXPECT_THAT(Split("(?=b)", "abab"), ElementsAre("a", "[]", "ba", "[]", "b"));
  EXPECT_THAT(Split("$", "a\n\u00e9"), ElementsAre("a", "[]", "\n\u00e9", "[]"));
}

TEST(RegexTest, ALiteralIsNoPattern) {
  std::vector<TextSpan> spans;
  TextWork work;
  Regex::Literal("a.").Split("aba.b", work, &spans);
  ASSERT_EQ(spans.size(), 3u);
  EXPECT_EQ(spans[1].begin, 2u);
}

TEST(RegexTest, SpaceIsUnicodeWhiteSpaceWhereverItStands) {
  int count = 0;
  for (char32_t c = 1; c < 0x3010; ++c) {
    SCOPED_TRACE(static_cast<uint32_t>(c));
    const bool space = Matches(R"(\s)", c);
    count += space;
    EXPECT_EQ(Matches(R"([\s])", c), space);
    EXPECT_EQ(Matches(R"([^\s])", c), !space);
    EXPECT_EQ(Matches(R"(\S)", c), !space);
    EXPECT_EQ(Matches(R"([\S])", c), !space);
  }
  EXPECT_EQ(count, 25);  // as Unicode has it
  EXPECT_FALSE(Matches(R"(\s)", 0x180e));
}

TEST(RegexTest, WordsIncludeMarksAndConnectors) {
  for (const char32_t c : {U'a', U'7', U'_', U'\u0301', U'\u203f', U'\u2160'}) {
    EXPECT_TRUE(Matches(R"(\w)", c)) << static_cast<uint32_t>(c);
    EXPECT_TRUE(Matches(R"([\w])", c)) << static_cast<uint32_t>(c);
    EXPECT_FALSE(Matches(R"(\W)", c)) << static_cast<uint32_t>(c);
  }
  EXPECT_TRUE(Matches(R"(\w)", U'\u00b2'));   // superscript two, as Oniguruma has it
  EXPECT_FALSE(Matches(R"(\w)", U'\u2074'));  // superscript four
}

TEST(RegexTest, ScriptsAreNotScriptExtensions) {
  EXPECT_TRUE(Matches(R"(\p{Han})", U'\u4e00'));
  EXPECT_FALSE(Matches(R"(\p{Han})", U'\u3001'));  // 、: common, used with Han
  EXPECT_TRUE(Matches(R"(\p{^Han})", U'\u3001'));
  EXPECT_TRUE(Matches(R"(\P{Lu})", U'a'));
}

TEST(RegexTest, EscapesMeanWhatRubySays) {
  EXPECT_TRUE(Matches(R"(\x41)", U'A'));
  EXPECT_TRUE(Matches(R"([\u4e00-\u9fff])", U'\u4e01'));
  EXPECT_TRUE(Matches(R"(\x{1F600})", U'\U0001f600'));
  EXPECT_TRUE(Matches(R"(\v)", U'\v'));
  EXPECT_FALSE(Matches(R"(\v)", U'\n'));
  EXPECT_TRUE(Matches(R"(\-)", U'-'));
  EXPECT_TRUE(Matches("\\\u00e9", U'\u00e9'));
}

TEST(RegexTest, WhatDiffersIsRefusedByName) {
  const std::pair<const char*, const char*> cases[] = {
      {R"(a\b)", R"(\b)"},
      {R"(\h)", R"(\h)"},
      {R"((a)\1)", R"(\1)"},
      {"[[:alpha:]]", "[:"},
      {"[a-z&&b]", "&&"},
      {"[]a]", "]"},
      {"a{1,3}+", "{1,3}+"},
      {"a{2}?", "{2}?"},
      {"a{,3}", "{,3}"},
      {"a(?i)b", "(?i"},
      {"(?<n>a)", "(?<"},
      {R"([\W])", R"(\W)"},
      {R"(\pL)", R"(\pL)"},
      {R"(\x80)", R"(\x80)"},
      {"a\\", "\\"},
      {R"(\p{Letter1})", R"(\p{Letter1})"},
      {R"(\uZZZZ)", R"(\uZZZZ)"},
  };
  for (const auto& [pattern, part] : cases) {
    const auto translated = OnigurumaToPcre2(pattern);
    ASSERT_FALSE(translated.ok()) << pattern << " became " << *translated;
    EXPECT_EQ(std::string(translated.status().message()).substr(0, std::string(part).size()), part)
        << pattern;
  }
}

TEST(RegexTest, LongTextsOverflowNothing) {
  const std::string text(300'000, 'a');
  for (const char* pattern : {"(?:a|b)+c?", "(?:(a)|b)*(?!a)"}) {
    EXPECT_THAT(Split(pattern, text), ElementsAre("[" + text + "]"));
  }
}

}  // namespace
}  // namespace mea
