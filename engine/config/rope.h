#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace mea {

enum class RopeKind : uint8_t { kNone, kDefault, kLinear, kLlama3, kYarn, kLongRope };

// Rotary embedding, half-split convention. Fields after `rotary_dim` belong to the kinds that each
// names.
struct RopeConfig {
  RopeKind kind = RopeKind::kDefault;
  double theta = 10000.0;
  int rotary_dim = 0;             // the first elements of a head, which rotate; 0: all do
  double factor = 1.0;            // linear, llama3, yarn: context stretched by this much
  int original_max_position = 0;  // llama3, yarn, longrope: context before stretching, in tokens
  double low_freq_factor = 1.0;   // llama3
  double high_freq_factor = 4.0;  // llama3
  double beta_fast = 32.0;        // yarn: rotations above which a frequency is kept
  double beta_slow = 1.0;         // yarn: rotations below which it is stretched whole
  double mscale = 0.0;            // yarn; 0 = not given
  double mscale_all_dim = 0.0;    // yarn; 0 = not given
  bool truncate = true;           // yarn: ramp ends rounded outwards to whole dimensions
  // yarn, longrope; absent: derived from factor, and from mscale or original_max_position
  std::optional<double> attention_factor;
  // longrope: [rotary_dim / 2] by how much each wave is stretched, in contexts up to
  // original_max_position and beyond.
  std::vector<double> short_factors;
  std::vector<double> long_factors;

  bool operator==(const RopeConfig&) const = default;
};

// What ComputeRopeArgs wants.
struct RopeFrequencies {
  std::vector<double> inv_freq;   // [head_dim / 2] radians per position
  double attention_factor = 1.0;  // scale of cos and sin
};

// Inverse frequencies as Hugging Face transformers computes them (modeling_rope_utils.py), in
// double precision.
// Elements that do not rotate have frequency 0. LongRoPE chooses by `max_position`, the context
// that is served: all sequences rotate alike, however short, since cached keys are rotated already.
RopeFrequencies ComputeRopeFrequencies(const RopeConfig& rope, int head_dim, int max_position);

// The order of a head's elements in which those that rotate together are half a head apart: element
// i in memory is element order[i] of the checkpoint. Empty where they are so already.
std::vector<int> RotaryOrder(const RopeConfig& rope, int head_dim);

}  // namespace mea
