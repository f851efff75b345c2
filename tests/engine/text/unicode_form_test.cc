#include "engine/text/unicode_form.h"

#include <gtest/gtest.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>

#include <array>
#include <vector>

#include "engine/text/utf8.h"
#include "tests/engine/text/golden_data.h"

namespace mea {
namespace {

constexpr std::array kForms = {UnicodeForm::kNfc, UnicodeForm::kNfd, UnicodeForm::kNfkc,
                               UnicodeForm::kNfkd};

const icu::Normalizer2& Icu(UnicodeForm form) {
  UErrorCode error = U_ZERO_ERROR;
  const char* data = form == UnicodeForm::kNfc || form == UnicodeForm::kNfd ? "nfc" : "nfkc";
  const bool composes = form == UnicodeForm::kNfc || form == UnicodeForm::kNfkc;
  return *icu::Normalizer2::getInstance(nullptr, data, composes ? UNORM2_COMPOSE : UNORM2_DECOMPOSE,
                                        error);
}

std::string ByDefinition(UnicodeForm form, const std::string& text) {
  UErrorCode error = U_ZERO_ERROR;
  std::string result;
  icu::StringByteSink<std::string> sink(&result);
  Icu(form).normalizeUTF8(0, text, sink, nullptr, error);
  EXPECT_TRUE(U_SUCCESS(error));
  return result;
}

std::string InForm(UnicodeForm form, std::string_view text) {
  TextWork work;
  return InUnicodeForm(form, text, work).value_or(std::string(text));
}

std::string Utf8Of(std::initializer_list<char32_t> code_points) {
  std::string text;
  for (const char32_t c : code_points) AppendUtf8(c, &text);
  return text;
}

// The code points that normalization changes or that it moves, and some that it does not.
std::vector<char32_t> Interesting() {
  std::vector<char32_t> result = {U'a', U' ', U'z', 0x4e00, 0x1f600};
  for (char32_t c = 0x80; c < 0x110000; ++c) {
    const auto code_point = static_cast<UChar32>(c);
    if (c >= 0xd800 && c < 0xe000) continue;
    const bool syllable = c >= 0xac00 && c < 0xd7a4;  // of Hangul: thousands alike
    if (!Icu(UnicodeForm::kNfkc).isInert(code_point) && (!syllable || c % 97 == 0)) {
      result.push_back(c);
    }
  }
  return result;
}

TEST(UnicodeFormTest, EveryCodePointAloneAndBehindALetter) {
  for (const char32_t c : Interesting()) {
    for (const UnicodeForm form : kForms) {
      for (const std::string& text : {Utf8Of({c}), Utf8Of({U'a', c}), Utf8Of({c, 0x301, 0x327})}) {
        TextWork work;
        ASSERT_EQ(RunInUnicodeForm(form, text, work), ByDefinition(form, text)) << text;
        ASSERT_EQ(InForm(form, text), ByDefinition(form, text)) << text;
      }
    }
  }
}

TEST(UnicodeFormTest, RandomTextsAreAsIcuHasThem) {
  const std::vector<char32_t> all = Interesting();
  std::vector<char32_t> marks, joining;  // what composes with something before it
  for (const char32_t c : all) {
    const auto code_point = static_cast<UChar32>(c);
    if (Icu(UnicodeForm::kNfc).hasBoundaryBefore(code_point)) continue;
    (u_getCombiningClass(code_point) != 0 ? marks : joining).push_back(c);
  }
  ASSERT_GT(marks.size(), 800u);
  ASSERT_GT(joining.size(), 50u);
  TestRandom random(20261130);
  const auto one_of = [&](const std::vector<char32_t>& set) {
    return set[random.Below(static_cast<int>(set.size()))];
  };
  for (int i = 0; i < 20'000; ++i) {
    std::string text;
    // Some are longer than the pieces that ICU is given.
    const int size = i % 40 == 0 ? 100 + random.Below(1500) : 1 + random.Below(24);
    const int share_of_marks = random.Below(1000);
    for (int n = 0; n < size; ++n) {
      const int kind = random.Below(1000);
      AppendUtf8(kind < share_of_marks ? one_of(marks) : one_of(kind % 3 == 0 ? joining : all),
                 &text);
    }
    for (const UnicodeForm form : kForms) {
      TextWork work;
      const std::string expected = ByDefinition(form, text);
      ASSERT_EQ(InForm(form, text), expected) << "text " << i << ": " << text;
      ASSERT_EQ(RunInUnicodeForm(form, text, work), expected) << "text " << i << ": " << text;
    }
  }
}

TEST(UnicodeFormTest, RunsOfMarksAroundTheSizeOfAPiece) {
  for (const UnicodeForm form : kForms) {
    for (int size = 250; size < 262; ++size) {
      for (const std::string unit : {"\u0315", "\u0300", "\u0315\u0300", "\u1161", "\u09be"}) {
        std::string text = "e";
        for (int i = 0; i < size; ++i) text += unit;
        for (const std::string& whole : {text, text + "e", "xy" + text + text, text + "\u00e9"}) {
          ASSERT_EQ(InForm(form, whole), ByDefinition(form, whole)) << size;
        }
      }
    }
  }
}

TEST(UnicodeFormTest, SaysWhereNothingChanges) {
  TextWork work;
  std::string text(5000, 'a');
  EXPECT_EQ(InUnicodeForm(UnicodeForm::kNfc, text, work), std::nullopt);
  text += "e\u0301";
  EXPECT_EQ(InUnicodeForm(UnicodeForm::kNfc, text, work), std::string(5000, 'a') + "\u00e9");
  EXPECT_EQ(InUnicodeForm(UnicodeForm::kNfd, text, work), std::nullopt);
}

// ICU alone takes an hour for this.
TEST(UnicodeFormTest, MegabytesOfMarksTakeNoQuadraticTime) {
  for (const UnicodeForm form : kForms) {
    std::string text = "a";
    while (text.size() < 4 << 20) text += "\u0315\u0300";
    const std::string result = InForm(form, text);
    const bool composes = form == UnicodeForm::kNfc || form == UnicodeForm::kNfkc;
    EXPECT_TRUE(result.starts_with(composes ? "\u00e0\u0300" : "a\u0300\u0300"));
    EXPECT_TRUE(result.ends_with("\u0315\u0315"));
    EXPECT_EQ(InForm(form, result), result);
  }
}

}  // namespace
}  // namespace mea
