#include "engine/config/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/check.h"

namespace mea {
namespace {

// theta^(-2i/d), i = 0..d/2-1.
std::vector<double> DefaultInvFreq(double theta, int head_dim) {
  std::vector<double> inv_freq(head_dim / 2);
  for (int i = 0; i < head_dim / 2; ++i) {
    inv_freq[i] = 1.0 / std::pow(theta, 2.0 * i / head_dim);
  }
  return inv_freq;
}

// Long waves are stretched by `factor`, short ones are kept, the others are interpolated.
double Llama3Frequency(const RopeConfig& rope, double inv_freq) {
  const double context = rope.original_max_position;
  const double wavelength = 2.0 * std::numbers::pi / inv_freq;
  if (wavelength < context / rope.high_freq_factor) return inv_freq;
  if (wavelength > context / rope.low_freq_factor) return inv_freq / rope.factor;
  const double smooth = (context / wavelength - rope.low_freq_factor) /
                        (rope.high_freq_factor - rope.low_freq_factor);
  return (1.0 - smooth) * inv_freq / rope.factor + smooth * inv_freq;
}

double YarnMscale(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

double YarnAttentionFactor(const RopeConfig& rope) {
  if (rope.attention_factor) return *rope.attention_factor;
  if (rope.mscale > 0.0 && rope.mscale_all_dim > 0.0) {
    return YarnMscale(rope.factor, rope.mscale) / YarnMscale(rope.factor, rope.mscale_all_dim);
  }
  return YarnMscale(rope.factor, 1.0);
}

double LongRopeAttentionFactor(const RopeConfig& rope) {
  if (rope.attention_factor) return *rope.attention_factor;
  if (rope.factor <= 1.0) return 1.0;
  return std::sqrt(1.0 + std::log(rope.factor) / std::log(rope.original_max_position));
}

// The frequency index that rotates `rotations` times within the original context.
double YarnCorrectionIndex(const RopeConfig& rope, int head_dim, double rotations) {
  return head_dim * std::log(rope.original_max_position / (rotations * 2.0 * std::numbers::pi)) /
         (2.0 * std::log(rope.theta));
}

// YaRN (arXiv 2309.00071): a linear ramp from kept frequencies (index <= low) to frequencies
// stretched by `factor` (index >= high).
void ApplyYarn(const RopeConfig& rope, int head_dim, std::vector<double>& inv_freq) {
  double low = YarnCorrectionIndex(rope, head_dim, rope.beta_fast);
  double high = YarnCorrectionIndex(rope, head_dim, rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, head_dim - 1.0);
  if (low == high) high += 0.001;  // as transformers does
  for (size_t i = 0; i < inv_freq.size(); ++i) {
    const double stretched = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    inv_freq[i] = inv_freq[i] / rope.factor * stretched + inv_freq[i] * (1.0 - stretched);
  }
}

}  // namespace

RopeFrequencies ComputeRopeFrequencies(const RopeConfig& rope, int head_dim, int max_position) {
  MEA_CHECK(head_dim > 0 && head_dim % 2 == 0);
  const int rotary_dim = rope.rotary_dim > 0 ? rope.rotary_dim : head_dim;
  RopeFrequencies result{.inv_freq = DefaultInvFreq(rope.theta, rotary_dim)};
  switch (rope.kind) {
    case RopeKind::kNone:
      result.inv_freq.clear();
      break;
    case RopeKind::kDefault:
      break;
    case RopeKind::kLinear:
      for (double& f : result.inv_freq) f /= rope.factor;
      break;
    case RopeKind::kLlama3:
      for (double& f : result.inv_freq) f = Llama3Frequency(rope, f);
      break;
    case RopeKind::kYarn:
      ApplyYarn(rope, rotary_dim, result.inv_freq);
      result.attention_factor = YarnAttentionFactor(rope);
      break;
    case RopeKind::kLongRope: {
      const bool is_long = max_position > rope.original_max_position;
      const std::vector<double>& factors = is_long ? rope.long_factors : rope.short_factors;
      for (size_t i = 0; i < result.inv_freq.size(); ++i) result.inv_freq[i] /= factors[i];
      result.attention_factor = LongRopeAttentionFactor(rope);
      break;
    }
  }
  result.inv_freq.resize(head_dim / 2, 0.0);
  return result;
}

std::vector<int> RotaryOrder(const RopeConfig& rope, int head_dim) {
  if (rope.rotary_dim == 0 || rope.rotary_dim == head_dim) return {};
  const int rotating = rope.rotary_dim / 2;
  const int half = head_dim / 2;
  std::vector<int> order(head_dim);
  for (int i = 0; i < half; ++i) {
    order[i] = i < rotating ? i : rope.rotary_dim + i - rotating;
    order[half + i] = i < rotating ? rotating + i : half + i;
  }
  return order;
}

}  // namespace mea
