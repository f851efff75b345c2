// A pattern sees a long text a part at a time; what it matches must not depend on that.

#include <gtest/gtest.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <memory>
#include <string>
#include <vector>

#include "engine/text/regex.h"
#include "engine/text/regex_syntax.h"
#include "engine/text/utf8.h"
#include "tests/engine/text/golden_data.h"

namespace mea {
namespace {

using Spans = std::vector<std::pair<size_t, size_t>>;

// The matches that PCRE2 finds when it sees all of the text.
Spans MatchesInWhole(const std::string& pattern, std::string_view text) {
  const std::string translated = *OnigurumaToPcre2(pattern);
  int error = 0;
  PCRE2_SIZE where = 0;
  const std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> code(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &error, &where, nullptr),
      &pcre2_code_free);
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data(
      pcre2_match_data_create(1, nullptr), &pcre2_match_data_free);
  Spans spans;
  for (size_t from = 0; from <= text.size();) {
    if (pcre2_match(code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                    PCRE2_NO_UTF_CHECK, data.get(), nullptr) < 0) {
      break;
    }
    const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(data.get());
    const std::pair<size_t, size_t> span(offsets[0], offsets[1]);
    const bool again =
        span.first == span.second && !spans.empty() && spans.back().second == span.first;
    if (!again) spans.push_back(span);
    from = !again ? span.second : from + (from < text.size() ? CodePointSize(text[from]) : 1);
  }
  return spans;
}

Spans MatchesOf(const std::string& pattern, std::string_view text) {
  TextWork work;
  std::vector<TextSpan> parts;
  Regex::Compile(pattern)->Split(text, work, &parts);
  Spans spans;
  for (const TextSpan& part : parts) {
    if (part.is_match) spans.emplace_back(part.begin, part.end);
  }
  return spans;
}

constexpr const char* kPatterns[] = {
    // GPT-2, Llama 3, DeepSeek V3, gpt-oss, groups of three digits from the right
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
    R"([!-/:-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
    R"(\p{N}{1,3}(?=(?:\p{N}{3})*(?:\P{N}|$)))",
    // searches that fail late, matches that are rare, long or empty
    R"(\p{N}+x)", R"(\s+$)", "zq", "^a", "$", "(?=1a)", "(?!a)", "x*", "[^ ]{700,}", "a[^z]*z",
    "(?:a|1| )+x?", R"(\r\n|\n)", "(?i)A'S", "\u00e9+a?"};

TEST(RegexWindowTest, MatchesAreThoseOfTheWholeText) {
  const std::vector<std::string> letters = {"a", "Z",      "1",      " ",      "\n", "'", "s",
                                            ".", "\u00e9", "\u4e2d", "\u0301", "\r", "x"};
  TestRandom random(3);
  for (int i = 0; i < 400; ++i) {
    std::string text;
    const size_t size = 500 + random.Below(4000);
    // Runs, some of which span several windows.
    const int most = i % 3 == 0 ? 1500 : i % 3 == 1 ? 30 : 2;
    while (text.size() < size) {
      const std::string& letter = letters[random.Below(static_cast<int>(letters.size()))];
      for (int n = random.Below(most); n >= 0; --n) text += letter;
    }
    for (const char* pattern : kPatterns) {
      ASSERT_EQ(MatchesOf(pattern, text), MatchesInWhole(pattern, text))
          << pattern << " in text " << i;
    }
  }
}

}  // namespace
}  // namespace mea
