#include "kernels/cpu/ceilings.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/ceilings.cc"
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

uint64_t Sum(const uint64_t* words, int64_t count) {
  using D = hn::ScalableTag<uint64_t>;
  const D d;
  constexpr int kStreams = 4;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  hn::Vec<D> sums[kStreams] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
  for (int64_t i = 0; i + kStreams * lanes <= count; i += kStreams * lanes) {
    for (int s = 0; s < kStreams; ++s) {
      sums[s] = hn::Add(sums[s], hn::LoadU(d, words + i + s * lanes));
    }
  }
  return hn::GetLane(hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3])));
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
}  // namespace

MemoryReader::MemoryReader(int num_threads) : pool_(num_threads), words_(int64_t{32} << 20, 1) {}

void MemoryReader::Run() {
  const int64_t share = static_cast<int64_t>(words_.size()) / kItems;
  pool_.ParallelFor(kItems, [&](int64_t item, int) {
    volatile uint64_t sink = HWY_DYNAMIC_DISPATCH(Sum)(words_.data() + item * share, share);
    static_cast<void>(sink);
  });
}

void FmaLoop::Run() {
  pool_.ParallelFor(kItems, [](int64_t, int) { HWY_DYNAMIC_DISPATCH(MultiplyAdd)(100000); });
}

int64_t FmaLoop::flops() const { return kItems * HWY_DYNAMIC_DISPATCH(MultiplyAdd)(0) / 10; }

}  // namespace mea
#endif
