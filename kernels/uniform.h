#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define MEA_HOST_DEVICE __host__ __device__
#else
#define MEA_HOST_DEVICE
#endif

namespace mea {

// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection that spreads every input bit.
MEA_HOST_DEVICE constexpr uint64_t MixBits(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// 64 uniform bits that depend on (seed, counter) alone, the same on every device.
MEA_HOST_DEVICE constexpr uint64_t UniformBits(uint64_t seed, uint64_t counter) {
  constexpr uint64_t kGolden = 0x9e3779b97f4a7c15u;
  // The seed is mixed before the counter is added: streams of nearby seeds do not overlap.
  return MixBits(MixBits(seed + kGolden) + kGolden * (counter + 1));
}

// The same as a number in [0, 1).
MEA_HOST_DEVICE constexpr double UniformAt(uint64_t seed, uint64_t counter) {
  return static_cast<double>(UniformBits(seed, counter) >> 11) * 0x1p-53;
}

}  // namespace mea
