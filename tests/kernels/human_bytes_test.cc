#include "kernels/human_bytes.h"

#include <gtest/gtest.h>

namespace mea {
namespace {

TEST(HumanBytesTest, TakesTheLargestUnitThatFits) {
  EXPECT_EQ(HumanBytes(0), "0 B");
  EXPECT_EQ(HumanBytes(1023), "1023 B");
  EXPECT_EQ(HumanBytes(1024), "1.00 KiB");
  EXPECT_EQ(HumanBytes(int64_t{3} << 29), "1.50 GiB");
  EXPECT_EQ(HumanBytes(int64_t{5} << 50), "5120.00 TiB");
}

}  // namespace
}  // namespace mea
