#include "tests/golden/seeded_weights.h"

#include <bit>
#include <string>

namespace mea::golden {
namespace {

uint64_t Fnv1a(std::string_view text) {
  uint64_t state = 0xcbf29ce484222325u;
  for (const char c : text) state = (state ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return state;
}

// Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
class SplitMix64 {
 public:
  explicit SplitMix64(uint64_t seed) : state_(seed) {}
  uint64_t operator()() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }

 private:
  uint64_t state_;
};

struct ScaleAndOffset {
  double scale;
  double offset;
};

// Norm gains lie in [3/4, 5/4), biases and embeddings in [-1/4, 1/4); other matrices take the
// largest power of two with scale^2 * fan_in <= 4.
ScaleAndOffset RangeOf(std::string_view name, std::span<const int64_t> shape) {
  if (name.ends_with("norm.weight")) return {0.25, 1.0};
  if (name.ends_with(".bias") || name.ends_with("embed_tokens.weight")) return {0.25, 0.0};
  // W_lc is [h', h] and alpha [h, h, P]: their inputs are rows.
  const bool has_input_rows = name.ends_with("_hlc.weight") || name.ends_with(".iha_q") ||
                              name.ends_with(".iha_k") || name.ends_with(".iha_v");
  const auto fan_in = static_cast<double>(has_input_rows ? shape[0] : shape[1]);
  double scale = 1.0;
  while (scale * scale * fan_in > 4.0) scale *= 0.5;
  return {scale, 0.0};
}

}  // namespace

std::vector<float> SeededTensor(uint64_t seed, std::string_view name,
                                std::span<const int64_t> shape) {
  int64_t count = 1;
  for (const int64_t extent : shape) count *= extent;
  const auto [scale, offset] = RangeOf(name, shape);
  SplitMix64 next(Fnv1a(std::to_string(seed) + ":" + std::string(name)));
  std::vector<float> values(count);
  for (float& value : values) {
    const double u = (static_cast<double>(next() >> 40) - 0x1p23) * 0x1p-23;
    value = static_cast<float>(offset + scale * u);
  }
  return values;
}

uint64_t Checksum(uint64_t total, std::span<const float> values) {
  uint64_t sum = 0;
  uint64_t factor = 1;
  for (const float value : values) {
    sum += factor * std::bit_cast<uint32_t>(value);
    factor += 2;
  }
  return 31 * total + sum;
}

}  // namespace mea::golden
