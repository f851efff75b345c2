#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace mea::golden {

// The F32 elements of tensor `name` of the model with this seed: the same bits as
// tools/golden/seeded_weights.py draws. Element i takes the top 24 bits of SplitMix64's i-th
// number, the generator being started at FNV-1a("seed:name"), as u in [-1, 1), and becomes
// float(offset + scale * u).
std::vector<float> SeededTensor(uint64_t seed, std::string_view name,
                                std::span<const int64_t> shape);

// Over the bits of all elements, sensitive to order: `total` (0 at first) times 31, plus the sum of
// (2 i + 1) * bits[i].
uint64_t Checksum(uint64_t total, std::span<const float> values);

}  // namespace mea::golden
