#include "engine/text/utf8.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/engine/text/golden_data.h"

namespace mea {
namespace {

std::string FromHex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

TEST(Utf8Test, BrokenBytesAreReplacedAsPythonReplacesThem) {
  const auto cases = nlohmann::json::parse(ReadTestData("broken_utf8.json"));
  ASSERT_GE(cases.size(), 500u);
  for (const auto& pair : cases) {
    const std::string bytes = FromHex(pair[0].get<std::string>());
    const auto expected = pair[1].get<std::string>();
    EXPECT_EQ(ReplaceInvalidUtf8(bytes), expected) << pair[0];
    EXPECT_EQ(IsValidUtf8(bytes), bytes == expected) << pair[0];
    EXPECT_TRUE(IsValidUtf8(expected)) << pair[0];
  }
}

TEST(Utf8Test, AssemblingByteByByteGivesTheSame) {
  for (const auto& pair : nlohmann::json::parse(ReadTestData("broken_utf8.json"))) {
    const std::string bytes = FromHex(pair[0].get<std::string>());
    Utf8Assembler assembler;
    std::string text;
    for (const char byte : bytes) {
      assembler.Push(std::string_view(&byte, 1), &text);
      EXPECT_TRUE(IsValidUtf8(text)) << pair[0];
    }
    assembler.Finish(&text);
    EXPECT_EQ(text, pair[1].get<std::string>()) << pair[0];
  }
}

TEST(Utf8Test, EveryCodePointSurvivesARoundTrip) {
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xd800 && c < 0xe000) continue;
    SCOPED_TRACE(static_cast<uint32_t>(c));
    std::string text;
    AppendUtf8(c, &text);
    ASSERT_TRUE(IsValidUtf8(text));
    ASSERT_TRUE(CodePointAt(text, 0) == c);
    ASSERT_EQ(CodePointSize(text[0]), static_cast<int>(text.size()));
    ASSERT_EQ(CodePointBefore("a" + text, text.size() + 1), 1u);
  }
}

}  // namespace
}  // namespace mea
