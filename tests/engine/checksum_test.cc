#include "engine/storage/checksum.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace mea {
namespace {

TEST(ChecksumTest, EveryBitAndEveryPairOfBitsCounts) {
  std::string bytes(150, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 37);
  const size_t bits = 8 * bytes.size();
  const auto flip = [&](size_t bit) { bytes[bit / 8] ^= static_cast<char>(1 << bit % 8); };
  std::set<uint64_t> seen = {Checksum(bytes)};
  size_t num_cases = 1;
  for (size_t bit = 0; bit < bits; ++bit) {
    flip(bit);
    seen.insert(Checksum(bytes));
    ++num_cases;
    // The highest bits of two words, which a product alone would leave where they are.
    for (size_t other = bit + 1; other < bits; other += bit % 64 == 63 ? 1 : 97) {
      flip(other);
      seen.insert(Checksum(bytes));
      ++num_cases;
      flip(other);
    }
    flip(bit);
  }
  EXPECT_EQ(seen.size(), num_cases);
}

TEST(ChecksumTest, ZerosOfEachLengthDiffer) {
  std::set<uint64_t> seen;
  for (size_t size = 0; size < 300; ++size) seen.insert(Checksum(std::string(size, '\0')));
  EXPECT_EQ(seen.size(), 300u);
}

}  // namespace
}  // namespace mea
