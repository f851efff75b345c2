#include "kernels/cpu/roofline.h"

#include "kernels/cpu/kernel_table.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/roofline.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which compiles this file once per target.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// In several sequential streams, far apart: one stream does not reach the rate of the memory.
uint64_t Sum(const uint64_t* words, int64_t count) {
  using D = hn::ScalableTag<uint64_t>;
  const D d;
  constexpr int kStreams = 8;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t stream = count / kStreams;
  hn::Vec<D> sums[kStreams];
  for (auto& sum : sums) sum = hn::Zero(d);
  for (int64_t i = 0; i + lanes <= stream; i += lanes) {
    for (int s = 0; s < kStreams; ++s) {
      sums[s] = hn::Add(sums[s], hn::LoadU(d, words + s * stream + i));
    }
  }
  for (int s = 1; s < kStreams; ++s) sums[0] = hn::Add(sums[0], sums[s]);
  return hn::GetLane(sums[0]);
}

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mea {

HWY_EXPORT(Sum);

namespace {
constexpr int64_t kItems = 64;
constexpr int64_t kRounds = 100000;
constexpr int64_t kReadBytes = int64_t{256} << 20;
}  // namespace

MemoryReader::MemoryReader(int num_threads)
    : pool_(num_threads), memory_(Tensor::AllocateHost({{kReadBytes}}, DType::kI8).value()) {}

void MemoryReader::Run() {
  const int64_t share = bytes() / 8 / kItems;
  pool_.ParallelFor(kItems, [&](int64_t item, int) {
    const auto* words = static_cast<const uint64_t*>(memory_.view().data) + item * share;
    volatile uint64_t sink = HWY_DYNAMIC_DISPATCH(Sum)(words, share);
    static_cast<void>(sink);
  });
}

ProductLoop::ProductLoop(int num_threads)
    : pool_(num_threads), kernels_(cpu::SelectKernels("")->matmul) {}

void ProductLoop::Run(DType weights) {
  const auto run = kernels_.For(weights).loop.run;
  pool_.ParallelFor(kItems, [run](int64_t, int) { run(kRounds); });
}

int64_t ProductLoop::flops(DType weights) const {
  return kItems * kRounds * kernels_.For(weights).loop.flops;
}

}  // namespace mea
#endif
