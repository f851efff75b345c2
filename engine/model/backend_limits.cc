#include "engine/model/backend_limits.h"

#include <algorithm>

#include "engine/attention/variant.h"

namespace mea {
namespace {

template <typename T, typename Same>
void AddOnce(std::vector<T>& list, const T& value, const Same& same) {
  const auto is_same = [&](const T& other) { return same(other, value); };
  if (std::none_of(list.begin(), list.end(), is_same)) list.push_back(value);
}

void AddProduct(BackendLimits& limits, int out_features, int in_features) {
  AddOnce(limits.products, ProductShape{out_features, in_features},
          [](const ProductShape& a, const ProductShape& b) {
            return a.out_features == b.out_features && a.in_features == b.in_features;
          });
}

}  // namespace

MoeShape MoeShapeOf(const ModelConfig& config) {
  return {.num_experts = config.moe.num_experts,
          .top_k = config.moe.top_k,
          .ffn_size = config.moe.ffn_size};
}

BackendLimits MakeBackendLimits(const ModelConfig& config, const ModelLimits& limits,
                                LayerRange layers) {
  BackendLimits result{.num_layers = layers.size(),
                       .max_rows = limits.max_batch_tokens,
                       .max_seqs = limits.max_num_seqs,
                       .max_context = config.max_position,
                       .max_logit_rows = limits.max_logit_rows,
                       .page_size = limits.page_size,
                       .hidden_size = config.hidden_size,
                       .vocab_size = layers.has_output(config) ? config.vocab_size : 1};
  const AttentionVariant& attention = AttentionOf(config);
  const int q_width = config.q_heads * config.head_dim;
  int num_sparse = 0;
  for (int layer = layers.begin; layer < layers.end; ++layer) {
    num_sparse += config.is_sparse(layer) ? 1 : 0;
    const LayerHeads& heads = config.layer_heads[layer];
    // The joined projections, and each alone: weights need not lie side by side.
    const int k_width = heads.key_heads * config.head_dim;
    const int v_width = heads.value_heads * config.head_dim;
    for (const int width : {q_width + k_width + v_width, q_width, k_width, v_width}) {
      AddProduct(result, width, config.hidden_size);
    }
    if (attention.has_dense_values()) AddProduct(result, q_width + k_width, config.hidden_size);
    AttentionKind kind = attention.KindOf(config, layer);
    kind.kv_dtype = limits.kv_dtype;
    AddOnce(result.attention, kind, [](const AttentionKind& a, const AttentionKind& b) {
      return a.window == b.window && a.is_composed == b.is_composed &&
             a.pseudo_heads == b.pseudo_heads;
    });
  }
  AddProduct(result, config.hidden_size, q_width);
  for (const ProductShape& product : attention.Products(config)) {
    AddProduct(result, product.out_features, product.in_features);
  }
  if (num_sparse < layers.size()) {
    AddProduct(result, 2 * config.ffn_size, config.hidden_size);
    AddProduct(result, config.ffn_size, config.hidden_size);
    AddProduct(result, config.hidden_size, config.ffn_size);
  }
  if (num_sparse > 0) result.moe = MoeShapeOf(config);
  if (layers.has_output(config)) AddProduct(result, config.vocab_size, config.hidden_size);
  return result;
}

}  // namespace mea
