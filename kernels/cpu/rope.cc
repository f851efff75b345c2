#include "kernels/cpu/rope.h"

#include <cmath>

namespace mea::cpu {

void ComputeRopeRow(const ComputeRopeArgs& args, int64_t token) {
  const int64_t half = args.inv_freq.shape[0];
  const int64_t pseudo_heads = args.pseudo_heads;
  const int64_t own = args.positions.as<int32_t>()[token / pseudo_heads];
  const auto position = static_cast<double>(own * pseudo_heads + token % pseudo_heads);
  float* out = args.out.row<float>(token);
  for (int64_t i = 0; i < half; ++i) {
    // In double: at position 100,000 a float angle would be off by 0.004.
    const double inv_freq = args.inv_freq.as<double>()[i];
    const double angle = position * inv_freq;
    const double factor = inv_freq == 0 ? 1 : args.attention_factor;
    out[i] = static_cast<float>(std::cos(angle) * factor);
    out[i + half] = static_cast<float>(std::sin(angle) * args.attention_factor);
  }
}

}  // namespace mea::cpu
