#include "engine/bench/step_cost.h"

#include "engine/model/backend_limits.h"

namespace mea {
namespace {

OpCost AttentionBlockCost(const ModelConfig& config, int layer, const StepDTypes& dtypes,
                          std::span<const SequenceLengths> sequences, int64_t num_tokens) {
  const KvSpec kv = config.LayerKvSpec(layer, dtypes.kv);
  const int64_t d = config.head_dim;
  const int64_t projected = (config.q_heads + kv.key_heads + kv.value_heads) * d;
  return MatMulCost(num_tokens, config.hidden_size, projected, dtypes.weights, dtypes.compute) +
         AppendKvCost(num_tokens, kv, dtypes.compute) +
         AttentionOf(config).Cost({.config = config,
                                   .layer = layer,
                                   .dtypes = dtypes,
                                   .sequences = sequences,
                                   .num_tokens = num_tokens}) +
         MatMulCost(num_tokens, config.q_heads * d, config.hidden_size, dtypes.weights,
                    dtypes.compute);
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
         GatedActivationCost(num_tokens, ffn, dtypes.compute) +
         MatMulCost(num_tokens, ffn, config.hidden_size, dtypes.weights, dtypes.compute);
}

}  // namespace

OpCost StepCost(const ModelConfig& config, const StepDTypes& dtypes,
                std::span<const SequenceLengths> sequences, int64_t logit_rows) {
  int64_t n = 0;
  for (const SequenceLengths& sequence : sequences) n += sequence.q_len;
  const int64_t hidden = config.hidden_size;

  const LayerDesign& design = config.layers;
  const auto norms = [](std::string_view of_delta, bool of_residual) {
    return (of_delta.empty() ? 0 : 1) + (of_residual ? 1 : 0);
  };
  const bool has_input_norm = !design.input_norm.empty();
  OpCost cost = EmbedCost(n, hidden, dtypes.weights, dtypes.compute) +
                RmsNormCost(n, hidden, has_input_norm ? 1 : 0, dtypes.compute);
  for (int layer = 0; layer < config.num_layers; ++layer) {
    const bool is_last = layer + 1 == config.num_layers;
    cost += AttentionBlockCost(config, layer, dtypes, sequences, n);
    cost += AddRmsNormCost(n, hidden, norms(design.attention_output_norm, !design.ffn_norm.empty()),
                           dtypes.compute);
    cost += FeedForwardCost(config, layer, dtypes, n);
    cost += AddRmsNormCost(n, hidden, norms(design.ffn_output_norm, is_last || has_input_norm),
                           dtypes.compute);
  }
  return cost + MatMulCost(logit_rows, hidden, config.vocab_size,
                           dtypes.output.value_or(dtypes.weights), dtypes.compute);
}

}  // namespace mea
