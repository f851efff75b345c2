#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace mea {

enum class RopeKind : uint8_t { kDefault, kLinear, kLlama3, kYarn };

// Rotary embedding over the whole head, half-split convention. Fields after `theta` belong to the
// kinds named beside them.
struct RopeConfig {
  RopeKind kind = RopeKind::kDefault;
  double theta = 10000.0;
  double factor = 1.0;                     // linear, llama3, yarn: context stretched by this much
  int original_max_position = 0;           // llama3, yarn: context before stretching, in tokens
  double low_freq_factor = 1.0;            // llama3
  double high_freq_factor = 4.0;           // llama3
  double beta_fast = 32.0;                 // yarn: rotations above which a frequency is kept
  double beta_slow = 1.0;                  // yarn: rotations below which it is stretched whole
  double mscale = 0.0;                     // yarn; 0 = not given
  double mscale_all_dim = 0.0;             // yarn; 0 = not given
  bool truncate = true;                    // yarn: ramp ends rounded outwards to whole dimensions
  std::optional<double> attention_factor;  // yarn; derived from factor and mscale when absent
};

// What ComputeRopeArgs wants.
struct RopeFrequencies {
  std::vector<double> inv_freq;   // [head_dim / 2] radians per position
  double attention_factor = 1.0;  // scale of cos and sin
};

// Inverse frequencies as Hugging Face transformers computes them (modeling_rope_utils.py), in
// double precision.
RopeFrequencies ComputeRopeFrequencies(const RopeConfig& rope, int head_dim);

}  // namespace mea
