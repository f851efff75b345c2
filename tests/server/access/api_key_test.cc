#include "server/access/api_key.h"

#include <gtest/gtest.h>

#include <set>

#include "absl/strings/escaping.h"
#include "server/access/exposure.h"

namespace mea::testing {
namespace {

TEST(ApiKeyTest, HashIsSha256) {
  const Sha256 hash = HashOf("abc");
  EXPECT_EQ(absl::BytesToHexString({reinterpret_cast<const char*>(hash.data()), hash.size()}),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(ApiKeyTest, EachBitOfAHashCounts) {
  const Sha256 hash = HashOf("abc");
  EXPECT_TRUE(IsSameHash(hash, HashOf("abc")));
  for (size_t bit = 0; bit < 8 * hash.size(); ++bit) {
    Sha256 other = hash;
    other[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    EXPECT_FALSE(IsSameHash(hash, other)) << bit;
    for (size_t second = 0; second < 8 * hash.size(); second += 37) {
      Sha256 two = other;  // differences do not cancel out
      two[second / 8] ^= static_cast<uint8_t>(1 << second % 8);
      EXPECT_EQ(IsSameHash(hash, two), bit == second);
    }
  }
}

TEST(ApiKeyTest, TokensAreLongAndNeverTheSame) {
  std::set<std::string> tokens;
  for (int i = 0; i < 100; ++i) {
    const std::string token = *NewToken();
    EXPECT_EQ(token.size(), 4u + 43u) << token;
    EXPECT_TRUE(tokens.insert(token).second);
  }
}

TEST(ExposureTest, LoopbackIsOfThisMachine) {
  for (const char* address : {"127.0.0.1:1", "127.8.9.10:1", "localhost:1", "[::1]:1", ""}) {
    EXPECT_TRUE(IsOfThisMachine(address)) << address;
  }
  for (const char* address : {"0.0.0.0:1", "10.0.0.7:1", "128.0.0.1:1", "[::]:1", "example.org:1",
                              "[::ffff:127.0.0.1]:1", "127.0.0.1.example.org:1"}) {
    EXPECT_FALSE(IsOfThisMachine(address)) << address;
  }
}

}  // namespace
}  // namespace mea::testing
