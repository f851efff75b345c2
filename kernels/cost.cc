#include "kernels/cost.h"

#include <algorithm>
#include <cmath>

#include "kernels/matrix.h"

namespace mea {
namespace {

// Pairs of a query and a token it sees.
int64_t VisiblePairs(const SequenceLengths& s, int64_t window) {
  // Query i of q_len stands at position kv_len - q_len + i and sees all tokens up to its own.
  const int64_t first = s.kv_len - s.q_len + 1;
  if (window == 0 || s.kv_len <= window) return s.q_len * (first + s.kv_len) / 2;
  const int64_t growing = std::clamp<int64_t>(window - first, 0, s.q_len);
  return growing * (2 * first + growing - 1) / 2 + (s.q_len - growing) * window;
}

// Tokens that at least one query sees.
int64_t VisibleTokens(const SequenceLengths& s, int64_t window) {
  if (s.q_len == 0) return 0;
  return window == 0 ? s.kv_len : std::min(s.kv_len, window + s.q_len - 1);
}

}  // namespace

OpCost EmbedCost(int64_t num_tokens, int64_t hidden, DType table, DType compute) {
  return {.bytes = num_tokens * (hidden * (DTypeSize(table) + DTypeSize(compute)) + 4), .flops = 0};
}

OpCost RmsNormCost(int64_t num_tokens, int64_t hidden, int num_norms, DType compute) {
  return {.bytes = 2 * num_tokens * hidden * DTypeSize(compute) + 4 * num_norms * hidden,
          .flops = 4 * num_norms * num_tokens * hidden};
}

OpCost AddRmsNormCost(int64_t num_tokens, int64_t hidden, int num_norms, DType compute) {
  return {.bytes = 4 * num_tokens * hidden * DTypeSize(compute) + 4 * num_norms * hidden,
          .flops = (4 * num_norms + 1) * num_tokens * hidden};
}

OpCost MatMulCost(int64_t num_tokens, int64_t in, int64_t out, DType weights, DType compute) {
  const int64_t flops = 2 * num_tokens * in * out;
  return {.bytes = MatrixBytes(out, in, weights) + num_tokens * (in + out) * DTypeSize(compute),
          .flops = flops,
          .product_flops = flops};
}

OpCost GatedActivationCost(int64_t num_tokens, int64_t width, DType compute) {
  // An exponential counts as one operation, in addition to the negation, sum, quotient and product.
  return {.bytes = 3 * num_tokens * width * DTypeSize(compute), .flops = 5 * num_tokens * width};
}

OpCost MoeCost(int64_t num_tokens, int64_t hidden, const MoeShape& shape, int64_t num_reached,
               DType weights, DType compute) {
  const int64_t router = shape.num_experts * hidden;
  const int64_t expert = 3 * hidden * shape.ffn_size;
  const int64_t chosen = num_tokens * shape.top_k;
  const int64_t products = 2 * (num_tokens * router + chosen * expert);
  const int64_t expert_bytes = 2 * MatrixBytes(shape.ffn_size, hidden, weights) +
                               MatrixBytes(hidden, shape.ffn_size, weights);
  return {.bytes = MatrixBytes(shape.num_experts, hidden, weights) + num_reached * expert_bytes +
                   2 * num_tokens * hidden * DTypeSize(compute),
          // Products, SwiGLU as above, and the weighted sum.
          .flops = products + chosen * (5 * int64_t{shape.ffn_size} + 2 * hidden),
          .product_flops = products};
}

int64_t ExpectedExperts(const MoeShape& shape, int64_t num_tokens) {
  const double missed_by_one = 1.0 - static_cast<double>(shape.top_k) / shape.num_experts;
  const double missed_by_all = std::pow(missed_by_one, static_cast<double>(num_tokens));
  return std::llround(shape.num_experts * (1.0 - missed_by_all));
}

OpCost SigmoidGateCost(int64_t num_tokens, int64_t width, DType compute) {
  return {.bytes = 3 * num_tokens * width * DTypeSize(compute), .flops = 6 * num_tokens * width};
}

OpCost MixHeadsCost(int64_t num_tokens, int64_t in_heads, int64_t out_heads, int64_t head_dim,
                    DType compute) {
  return {.bytes = num_tokens * (in_heads + out_heads) * head_dim * DTypeSize(compute) +
                   4 * in_heads * out_heads,
          .flops = 2 * num_tokens * in_heads * out_heads * head_dim};
}

OpCost PrepareQueriesCost(int64_t num_tokens, int64_t q_heads, int64_t head_dim, DType compute) {
  return {.bytes = num_tokens * (2 * q_heads + 1) * head_dim * DTypeSize(compute),
          .flops = 3 * num_tokens * q_heads * head_dim};
}

OpCost AppendKvCost(int64_t num_tokens, const KvSpec& spec, DType compute) {
  const int64_t heads = spec.key_heads + spec.value_heads;
  const int64_t composed_flops =
      spec.key_norm_heads * (2 * int64_t{spec.key_heads} + 2) * spec.head_dim;
  return {.bytes = num_tokens *
                   ((heads + 1) * spec.head_dim * DTypeSize(compute) + 4 + KvBytesPerToken(spec)),
          .flops = num_tokens * (3 * int64_t{spec.key_heads} * spec.head_dim + composed_flops)};
}

OpCost PagedAttentionCost(const AttentionShape& shape, std::span<const SequenceLengths> sequences,
                          DType compute) {
  const int64_t head_dim = shape.kv.head_dim;
  // Weights of the mixes of keys and values, without their unit columns.
  const auto weights = [&](int64_t components) {
    return (shape.kv_heads - components) * components;
  };
  const int64_t mixed = weights(shape.kv.key_heads) + weights(shape.kv.value_heads);
  const int64_t unit = shape.kv.key_heads + shape.kv.value_heads;
  OpCost cost;
  for (const SequenceLengths& s : sequences) {
    const int64_t pairs = VisiblePairs(s, shape.window);
    const int64_t tokens = VisibleTokens(s, shape.window);
    cost.bytes += tokens * KvBytesPerToken(shape.kv) +
                  2 * s.q_len * shape.q_heads * head_dim * DTypeSize(compute);
    const int64_t plain = pairs * 4 * shape.q_heads * head_dim;
    if (!shape.composed) {
      cost.flops += plain;
      continue;
    }
    const int64_t group = shape.q_heads / shape.kv_heads;
    const int64_t narrow = pairs * 2 * group * (unit + mixed) * head_dim;
    const int64_t expanded = plain + tokens * 2 * mixed * head_dim;
    cost.flops += std::min(narrow, expanded);
  }
  return cost;
}

OpCost InterleavedAttentionCost(const AttentionShape& shape, int pseudo_heads,
                                std::span<const SequenceLengths> sequences, DType compute) {
  const int64_t head_dim = shape.kv.head_dim;
  const int64_t pseudo = int64_t{pseudo_heads} * shape.kv_heads;
  OpCost cost;
  for (const SequenceLengths& s : sequences) {
    // A pseudo query sees as many pseudo keys of each kind as its token sees tokens, one token
    // earlier where the pseudo key comes after it.
    const int64_t tokens = VisibleTokens(s, shape.window);
    cost.bytes +=
        tokens * KvBytesPerToken(shape.kv) + 2 * s.q_len * pseudo * head_dim * DTypeSize(compute);
    cost.flops += VisiblePairs(s, shape.window) * 4 * pseudo * pseudo_heads * head_dim +
                  tokens * 2 * pseudo * (shape.kv.key_heads + shape.kv.value_heads) * head_dim;
  }
  return cost;
}

}  // namespace mea
