#pragma once

#include <cstdint>
#include <limits>

#include "kernels/sample.h"
#include "kernels/uniform.h"

namespace mea {

// The arithmetic of SampleRow's definition. Everything that decides which token is drawn is an
// integer, or a sequence of float operations, each rounded according to IEEE 754: the same logits
// give the same token on every device and for every order of summation.
//
//   distance  how far a token's edited logit is behind the best one, divided by the temperature, in
//             units of 2^-27. At 32 and more (e^-32 = 1e-14) a token is no candidate. Candidates
//             are ordered by (distance, id): that is "largest first, lower ids first among equals".
//   weight    e^-distance in units of 2^-44: what stands for a candidate's probability.
//   point     UniformBits / 2^64 of the total weight of all that is kept: the token is drawn within
//             whose weight the point falls, in the order of token ids.

// Sums of this many weights stay below 2^64.
inline constexpr int kMaxSampleVocab = 1 << 19;

inline constexpr float kLargestFloat = std::numeric_limits<float>::max();
inline constexpr float kImpossible = -std::numeric_limits<float>::infinity();

// An edit in two halves, between which a product must be rounded: nvcc fuses operations that it
// sees together.
MEA_HOST_DEVICE constexpr float WithBiasAndRepetition(float logit, const LogitEdit& edit) {
  const float biased = logit + edit.bias;
  return biased > 0 ? biased / edit.repetition : biased * edit.repetition;
}
MEA_HOST_DEVICE constexpr float WithPenalty(float logit, const LogitEdit& edit) {
  return edit.penalty == LogitEdit::kBanned ? kImpossible : logit - edit.penalty;
}

inline constexpr uint32_t kNoCandidate = 0xffffffffu;

// Units of distance per unit of logit; temperature > 0.
MEA_HOST_DEVICE constexpr float DistanceScale(float temperature) {
  const float scale = 0x1p27f / temperature;
  return scale < kLargestFloat ? scale : kLargestFloat;
}

// `best` is finite, `logit` at most that, or -infinity.
MEA_HOST_DEVICE constexpr uint32_t Distance(float best, float logit, float scale) {
  const float distance = (best - logit) * scale;
  return distance < 0x1p32f ? static_cast<uint32_t>(distance) : kNoCandidate;
}

inline constexpr uint64_t kBestWeight = uint64_t{1} << 44;

// 2^-f = 1 - f (c1 - f (c2 - ...)) on [0, 1), exact at both ends; never rises with the distance;
// the relative error is below 1e-7.
MEA_HOST_DEVICE constexpr uint64_t Weight(uint32_t distance) {
  constexpr uint32_t kLog2E = 3098164010u;                  // log2(e), in 2^-31
  const uint64_t octaves = uint64_t{distance} * kLog2E;     // in 2^-58
  const uint32_t f = static_cast<uint32_t>(octaves >> 26);  // their fraction, in 2^-32
  uint32_t series = 4035806u;                               // c5, in 2^-32
  series = 39487045u - static_cast<uint32_t>(uint64_t{f} * series >> 32);
  series = 237459814u - static_cast<uint32_t>(uint64_t{f} * series >> 32);
  series = 1031553340u - static_cast<uint32_t>(uint64_t{f} * series >> 32);
  series = 2977028413u - static_cast<uint32_t>(uint64_t{f} * series >> 32);
  const uint64_t power = (uint64_t{1} << 32) - (uint64_t{f} * series >> 32);  // 2^-f, in 2^-32
  return (power << 12) >> (octaves >> 58);
}

// The high 64 bits of a * b.
MEA_HOST_DEVICE constexpr uint64_t MultiplyHigh(uint64_t a, uint64_t b) {
  constexpr uint64_t kLow = 0xffffffffu;
  const uint64_t cross = (a >> 32) * (b & kLow) + ((a & kLow) * (b & kLow) >> 32);
  const uint64_t other = (a & kLow) * (b >> 32) + (cross & kLow);
  return (a >> 32) * (b >> 32) + (cross >> 32) + (other >> 32);
}

// The weight that top_p (below 1) requires of a total: the least weight with that share.
MEA_HOST_DEVICE constexpr uint64_t TopPWeight(float top_p, uint64_t total) {
  const uint64_t share = static_cast<uint64_t>(top_p * 0x1p32f) << 32;  // in 2^-64
  const uint64_t weight = MultiplyHigh(share, total) + (share * total != 0 ? 1 : 0);
  return weight > 0 ? weight : 1;
}

// The least weight that min_p keeps.
MEA_HOST_DEVICE constexpr uint64_t MinPWeight(float min_p) {
  const float weight = min_p * static_cast<float>(kBestWeight);
  const uint64_t floor = static_cast<uint64_t>(weight);
  return static_cast<float>(floor) < weight ? floor + 1 : floor;
}

// The point below `total` that the row's draw falls on.
MEA_HOST_DEVICE constexpr uint64_t DrawnPoint(const SampleRow& row, uint64_t total) {
  return MultiplyHigh(UniformBits(row.seed, row.counter), total);
}

}  // namespace mea
