#include "engine/bench/step_cost.h"

#include "engine/model/backend_limits.h"

namespace mea {
namespace {

// The MLP of KHA on every head of the values.
OpCost KnockCost(const ModelConfig& config, const StepDTypes& dtypes, int64_t num_tokens) {
  if (config.knock != Knock::kMlp) return {};
  const int64_t rows = num_tokens * config.kv_heads;
  const int64_t d = config.head_dim;
  return MatMulCost(rows, d, 2 * d, dtypes.weights, dtypes.compute) +
         SigmoidGateCost(rows, d, dtypes.compute) +
         MatMulCost(rows, d, d, dtypes.weights, dtypes.compute);
}

OpCost AttentionBlockCost(const ModelConfig& config, int layer, const StepDTypes& dtypes,
                          std::span<const SequenceLengths> sequences, int64_t num_tokens) {
  const AttentionShape shape = AttentionShapeOf(config, layer, dtypes.kv);
  const int64_t d = config.head_dim;
  const int64_t pseudo_heads = config.layer_heads[layer].pseudo_heads;
  const int64_t projected = (config.q_heads + shape.kv.key_heads + shape.kv.value_heads) * d;
  const OpCost around =
      MatMulCost(num_tokens, config.hidden_size, projected, dtypes.weights, dtypes.compute) +
      KnockCost(config, dtypes, num_tokens) + AppendKvCost(num_tokens, shape.kv, dtypes.compute) +
      MatMulCost(num_tokens, config.q_heads * d, config.hidden_size, dtypes.weights,
                 dtypes.compute);
  if (pseudo_heads == 0) {
    return around + PrepareQueriesCost(num_tokens, config.q_heads, d, dtypes.compute) +
           PagedAttentionCost(shape, sequences, dtypes.compute);
  }
  const int64_t h = config.kv_heads;
  return around + MixHeadsCost(num_tokens, h, pseudo_heads * h, d, dtypes.compute) +
         PrepareQueriesCost(num_tokens, pseudo_heads * h, d, dtypes.compute) +
         InterleavedAttentionCost(shape, static_cast<int>(pseudo_heads), sequences,
                                  dtypes.compute) +
         MixHeadsCost(num_tokens, pseudo_heads * h, h, d, dtypes.compute);
}

OpCost FeedForwardCost(const ModelConfig& config, int layer, const StepDTypes& dtypes,
                       int64_t num_tokens) {
  if (config.is_sparse(layer)) {
    const MoeShape shape = MoeShapeOf(config);
    return MoeCost(num_tokens, config.hidden_size, shape, ExpectedExperts(shape, num_tokens),
                   dtypes.weights, dtypes.compute);
  }
  const int64_t ffn = config.ffn_size;
  return MatMulCost(num_tokens, config.hidden_size, 2 * ffn, dtypes.weights, dtypes.compute) +
         SwiGluCost(num_tokens, ffn, dtypes.compute) +
         MatMulCost(num_tokens, ffn, config.hidden_size, dtypes.weights, dtypes.compute);
}

}  // namespace

AttentionShape AttentionShapeOf(const ModelConfig& config, int layer, DType kv_dtype) {
  const LayerHeads& heads = config.layer_heads[layer];
  return {.kv = config.LayerKvSpec(layer, kv_dtype),
          .q_heads = config.q_heads,
          .kv_heads = config.kv_heads,
          .composed = heads.key_mix || heads.value_mix,
          .window = config.layer_windows[layer]};
}

OpCost StepCost(const ModelConfig& config, const StepDTypes& dtypes,
                std::span<const SequenceLengths> sequences, int64_t logit_rows) {
  int64_t n = 0;
  for (const SequenceLengths& sequence : sequences) n += sequence.q_len;
  const int64_t hidden = config.hidden_size;

  OpCost cost =
      EmbedCost(n, hidden, dtypes.weights, dtypes.compute) + RmsNormCost(n, hidden, dtypes.compute);
  for (int layer = 0; layer < config.num_layers; ++layer) {
    cost += AttentionBlockCost(config, layer, dtypes, sequences, n);
    cost += AddRmsNormCost(n, hidden, dtypes.compute);
    cost += FeedForwardCost(config, layer, dtypes, n);
    cost += AddRmsNormCost(n, hidden, dtypes.compute);
  }
  return cost + MatMulCost(logit_rows, hidden, config.vocab_size, dtypes.weights, dtypes.compute);
}

}  // namespace mea
