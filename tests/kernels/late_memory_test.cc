#include "kernels/late_memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

namespace mea {
namespace {

// Pages of a large tensor that are there.
int64_t PresentPages(const Tensor& tensor) {
  std::vector<unsigned char> pages((tensor.num_bytes() + getpagesize() - 1) / getpagesize());
  EXPECT_EQ(mincore(tensor.view().data, tensor.num_bytes(), pages.data()), 0);
  return std::count_if(pages.begin(), pages.end(), [](unsigned char p) { return (p & 1) != 0; });
}

TEST(LateMemoryTest, PagesComeWithoutBeingUsedAndWhatIsWrittenStays) {
  LateMemory memory;
  std::vector<Tensor> tensors;
  for (const int64_t bytes : {int64_t{9} << 20, int64_t{100}, (int64_t{5} << 20) + 12}) {
    tensors.push_back(memory.Allocate(std::array{bytes}, DType::kI8).value());
    const auto values = tensors.back().view().values<int8_t>();
    EXPECT_EQ(reinterpret_cast<uintptr_t>(values.data()) % 64, 0u);
    values.front() = 1;
  }
  EXPECT_LT(PresentPages(tensors[0]), tensors[0].num_bytes() / getpagesize());
  memory.Start();
  for (const Tensor& tensor : tensors) tensor.view().values<int8_t>().back() = 2;
  for (const size_t large : {0, 2}) {
    const Tensor& tensor = tensors[large];
    while (PresentPages(tensor) < (tensor.num_bytes() + getpagesize() - 1) / getpagesize()) {
      std::this_thread::yield();
    }
  }
  for (const Tensor& tensor : tensors) {
    const auto values = tensor.view().values<int8_t>();
    EXPECT_EQ(values.front(), 1);
    EXPECT_EQ(values.back(), 2);
    EXPECT_EQ(std::accumulate(values.begin(), values.end(), 0), 3) << "the rest is zero";
  }
}

TEST(LateMemoryTest, EndsWhilePagesAreStillComingAndTensorsStay) {
  for (int round = 0; round < 20; ++round) {
    Tensor tensor;
    {
      LateMemory memory;
      tensor = memory.Allocate(std::array{int64_t{256} << 20}, DType::kI8).value();
      memory.Start();
    }
    tensor.view().values<int8_t>().back() = 1;
  }
}

TEST(LateMemoryTest, MoreThanTheAddressesIsRefused) {
  LateMemory memory;
  const auto refused = memory.Allocate(std::array{int64_t{1} << 60}, DType::kI8);
  EXPECT_EQ(std::string(refused.status().message()), "cannot allocate 1048576.00 TiB");
}

}  // namespace
}  // namespace mea
