// Against Hugging Face tokenizers: the same texts must give the same ids, and the same ids the same
// text, for every kind of tokenizer.json.

#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "engine/text/tokenizer.h"
#include "tests/engine/text/golden_data.h"

namespace mea {
namespace {

constexpr int kNumIdLists = 600;

// FNV-1a, 64 bits folded to 32, as make_tokenizers.py has it.
class Hash {
 public:
  void Add(std::string_view bytes) {
    for (const char c : bytes) value_ = (value_ ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  }
  void Add(const std::vector<int32_t>& ids) {
    const uint32_t count = ids.size();
    Add(std::string_view(reinterpret_cast<const char*>(&count), sizeof(count)));
    Add(std::string_view(reinterpret_cast<const char*>(ids.data()), 4 * ids.size()));
  }
  uint32_t value() const { return static_cast<uint32_t>(value_ ^ value_ >> 32); }

 private:
  uint64_t value_ = 0xcbf29ce484222325;
};

uint32_t HashOfDecoding(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  Hash hash;
  hash.Add(tokenizer.Decode(ids, /*skip_special_tokens=*/false));
  hash.Add(std::string_view("\0", 1));
  hash.Add(tokenizer.Decode(ids, /*skip_special_tokens=*/true));
  return hash.value();
}

class TokenizerGoldenTest : public testing::TestWithParam<const char*> {
 protected:
  TokenizerGoldenTest() : tokenizer_(TestTokenizer(GetParam())) {
    const std::string bytes = ReadTestData(std::string(GetParam()) + ".golden");
    golden_.resize(bytes.size() / sizeof(uint32_t));
    std::memcpy(golden_.data(), bytes.data(), bytes.size());
  }

  const Tokenizer& tokenizer_;
  std::vector<uint32_t> golden_;
};

TEST_P(TokenizerGoldenTest, TheFirstTextsGiveTheSameIds) {
  const auto expected = nlohmann::json::parse(ReadTestData(std::string(GetParam()) + ".ids.json"))
                            .get<std::vector<std::vector<int32_t>>>();
  ASSERT_GE(expected.size(), 500u);
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(tokenizer_.Encode(TestStrings()[i]), expected[i])
        << "text " << i << ": " << testing::PrintToString(TestStrings()[i]);
  }
}

TEST_P(TokenizerGoldenTest, AllTextsGiveTheSameIds) {
  ASSERT_GE(TestStrings().size(), 20'000u);
  ASSERT_EQ(golden_.size(), 2 * TestStrings().size() + kNumIdLists);
  int failures = 0;
  for (size_t i = 0; i < TestStrings().size() && failures < 10; ++i) {
    const std::string& text = TestStrings()[i];
    const auto ids = tokenizer_.Encode(text);
    const auto plain =
        tokenizer_.Encode(text, {.add_special_tokens = false, .parse_special = false});
    Hash hash;
    hash.Add(ids);
    hash.Add(plain);
    EXPECT_EQ(hash.value(), golden_[2 * i])
        << "text " << i << ": " << testing::PrintToString(text) << "\nids "
        << testing::PrintToString(ids) << "\nwithout special tokens "
        << testing::PrintToString(plain);
    failures += hash.value() != golden_[2 * i];
  }
}

TEST_P(TokenizerGoldenTest, AllIdsDecodeToTheSameText) {
  int failures = 0;
  for (size_t i = 0; i < TestStrings().size() && failures < 10; ++i) {
    const auto ids = tokenizer_.Encode(TestStrings()[i]);
    const uint32_t hash = HashOfDecoding(tokenizer_, ids);
    EXPECT_EQ(hash, golden_[2 * i + 1])
        << "text " << i << ": " << testing::PrintToString(TestStrings()[i]) << "\ndecoded "
        << testing::PrintToString(tokenizer_.Decode(ids, false));
    failures += hash != golden_[2 * i + 1];
  }
}

TEST_P(TokenizerGoldenTest, RandomIdsDecodeToTheSameText) {
  for (int i = 0; i < kNumIdLists; ++i) {
    const auto ids = RandomIds(i, tokenizer_.vocab_size());
    EXPECT_EQ(HashOfDecoding(tokenizer_, ids), golden_[2 * TestStrings().size() + i])
        << "ids " << testing::PrintToString(ids) << "\ndecoded "
        << testing::PrintToString(tokenizer_.Decode(ids, false));
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, TokenizerGoldenTest, testing::ValuesIn(kTokenizerKinds),
                         [](const auto& kind) { return std::string(kind.param); });

}  // namespace
}  // namespace mea
