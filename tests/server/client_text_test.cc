#include "server/client_text.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "server/field_error.h"
#include "server/limits.h"
#include "tests/engine/text/golden_data.h"
#include "tests/server/test_tokenizer.h"

namespace mea::testing {
namespace {

absl::Status Wanted() { return absl::OkStatus(); }

// A tokenizer whose pattern looks from every third digit to the last.
std::unique_ptr<Tokenizer> GroupingTokenizer() {
  auto json = nlohmann::json::parse(ReadTestData("qwen2.json"));
  json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] =
      "\\p{N}{1,3}(?=(?:\\p{N}{3})*(?:\\P{N}|$))|\\P{N}+";
  return *Tokenizer::Parse(json.dump(), "grouping");
}

TEST(ClientTextTest, TheLongestTextIsReadWhateverItIs) {
  const auto tokenizer = MakeTestTokenizer();
  const std::string text(kMaxPromptBytes, 'a');
  const auto ids = EncodeText(*tokenizer, "prompt", text, {}, Wanted);
  ASSERT_TRUE(ids.ok()) << ids.status();
  EXPECT_EQ(std::ssize(*ids), kMaxPromptBytes);
  const auto decoded = DecodeTokens(*tokenizer, "token_ids", *ids, true, Wanted);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(*decoded, text);
}

TEST(ClientTextTest, ATextThatIsTooMuchWorkIsRefusedByItsField) {
  const auto tokenizer = GroupingTokenizer();
  EXPECT_TRUE(EncodeText(*tokenizer, "prompt", std::string(5'000, '7'), {}, Wanted).ok());
  const auto ids = EncodeText(*tokenizer, "prompt", std::string(40'000, '7'), {}, Wanted);
  EXPECT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ids.status().message(), "prompt takes more than 67108864 steps");
  EXPECT_EQ(FieldOf(ids.status()), "prompt");
}

TEST(ClientTextTest, EndsWhenItIsNoLongerWanted) {
  const auto tokenizer = MakeTestTokenizer();
  const std::vector<int32_t> ids(1 << 20, 'a');
  for (const bool encodes : {true, false}) {
    int num_questions = 0;
    const auto gone = [&]() -> absl::Status {
      return ++num_questions < 5 ? absl::OkStatus() : absl::CancelledError("gone");
    };
    const absl::Status status =
        encodes ? EncodeText(*tokenizer, "prompt", std::string(1 << 20, 'a'), {}, gone).status()
                : DecodeTokens(*tokenizer, "token_ids", ids, true, gone).status();
    EXPECT_EQ(status, absl::CancelledError("gone"));
    EXPECT_EQ(num_questions, 5);
  }
}

}  // namespace
}  // namespace mea::testing
