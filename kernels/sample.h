#pragma once

#include <array>
#include <cstdint>
#include <limits>

#include "kernels/uniform.h"

namespace mea {

inline constexpr int kMaxTopLogprobs = 20;

// A mask is MaskWords(vocab) words: token t can be drawn if bit t % 32 of word t / 32 is set. At
// least one token that the edits leave possible has its bit set.
inline constexpr int kMaskBits = 32;
MEA_HOST_DEVICE constexpr int64_t MaskWords(int64_t vocab) {
  return (vocab + kMaskBits - 1) / kMaskBits;
}

// A change to one token's logit x before anything else looks at it:
//   x <- x + bias;  x <- x > 0 ? x / repetition : x * repetition;  x <- x - penalty
// A penalty of kBanned makes the token impossible.
struct LogitEdit {
  static constexpr float kBanned = std::numeric_limits<float>::infinity();

  int32_t token_id = 0;
  float bias = 0;
  float repetition = 1;
  float penalty = 0;
};

// How one row of logits becomes a token. With x the edited logits divided by the temperature, p
// their softmax: keep the top_k largest (lower ids first among equals); of these the shortest run,
// largest first, that reaches top_p of their probability; of these what has at least min_p times
// the largest probability. The kept tokens are walked in the order of their ids until the
// cumulative probability exceeds UniformAt(seed, counter). kernels/draw.h makes this exact, to the
// bit.
struct SampleRow {
  float temperature = 1;  // 0 = the largest edited logit, the lowest id among equals
  int32_t top_k = 0;      // 0 = all
  float top_p = 1;        // (0, 1]
  float min_p = 0;        // [0, 1]
  uint64_t seed = 0;
  uint64_t counter = 0;
  int32_t edits_begin = 0;  // [edits_begin, edits_end) of the edits: at most one for each token
  int32_t edits_end = 0;
  int32_t restricted = 0;  // 1: only tokens with an edit can be drawn
  int32_t mask = -1;       // index of the mask that applies; -1: none
  int32_t num_top = -1;    // most likely tokens to report, 0..kMaxTopLogprobs; -1: no logprobs
};

struct SampledToken {
  int32_t token_id = 0;
  int32_t is_finite = 1;  // 0: the logits are not all finite, and the rest means nothing
  // Under the unedited logits; set if num_top >= 0.
  float logprob = 0;
  std::array<int32_t, kMaxTopLogprobs> top_ids{};     // [num_top] most likely first
  std::array<float, kMaxTopLogprobs> top_logprobs{};  // [num_top]
};

}  // namespace mea
