#include "kernels/cpu/roofline.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/roofline.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which compiles this file once per target.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

constexpr int kChains = 12;

// Returns the flops done, or with rounds == 0 those of a million rounds.
int64_t MultiplyAdd(int64_t rounds) {
  using D = hn::ScalableTag<float>;
  const D d;
  if (rounds == 0) return 1000000 * kChains * 2 * static_cast<int64_t>(hn::Lanes(d));
  hn::Vec<D> sums[kChains];
  for (int i = 0; i < kChains; ++i) sums[i] = hn::Set(d, static_cast<float>(i));
  const auto factor = hn::Set(d, 0.999f);
  const auto term = hn::Set(d, 0.001f);
  for (int64_t round = 0; round < rounds; ++round) {
    for (int i = 0; i < kChains; ++i) sums[i] = hn::MulAdd(sums[i], factor, term);
  }
  auto sum = sums[0];
  for (int i = 1; i < kChains; ++i) sum = hn::Add(sum, sums[i]);
  volatile float sink = hn::GetLane(sum);
  static_cast<void>(sink);
  return 0;
}

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

HWY_EXPORT(MultiplyAdd);
HWY_EXPORT(Sum);

namespace {
constexpr int64_t kItems = 64;
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

void FmaLoop::Run() {
  pool_.ParallelFor(kItems, [](int64_t, int) { HWY_DYNAMIC_DISPATCH(MultiplyAdd)(100000); });
}

int64_t FmaLoop::flops() const { return kItems * HWY_DYNAMIC_DISPATCH(MultiplyAdd)(0) / 10; }

}  // namespace mea
#endif
