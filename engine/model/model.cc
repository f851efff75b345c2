#include "engine/model/model.h"

#include <cmath>

namespace mea {

absl::StatusOr<std::unique_ptr<Model>> Model::Create(ModelConfig config, ModelWeights weights,
                                                     Backend* backend, ModelLimits limits) {
  absl::StatusOr<Workspace> workspace = Workspace::Create(config, limits, *backend);
  if (!workspace.ok()) return workspace.status();
  return std::unique_ptr<Model>(
      new Model(std::move(config), std::move(weights), backend, limits, *std::move(workspace)));
}

Model::Model(ModelConfig config, ModelWeights weights, Backend* backend, ModelLimits limits,
             Workspace workspace)
    : config_(std::move(config)),
      weights_(std::move(weights)),
      backend_(backend),
      limits_(limits),
      workspace_(std::move(workspace)),
      rope_(ComputeRopeFrequencies(config_.rope, config_.head_dim)),
      variant_(CreateAttentionVariant(config_)) {}

void Model::Forward(const Batch& batch, const KvCache& kv) {
  const int n = batch.num_tokens();
  const TensorView residual = workspace_.residual(n);
  const TensorView normed = workspace_.normed(n);
  const TensorView delta = workspace_.delta(n);
  const float eps = config_.rms_norm_eps;

  backend_->ComputeRope({.positions = batch.positions(),
                         .inv_freq = TensorView::Of(std::span(rope_.inv_freq)),
                         .attention_factor = rope_.attention_factor,
                         .out = workspace_.cos_sin(n)});
  backend_->Embed(weights_.embedding, batch.token_ids(), residual);
  backend_->RmsNorm(residual, weights_.layers[0].input_norm, eps, normed);
  for (int i = 0; i < config_.num_layers; ++i) {
    const bool is_last = i + 1 == config_.num_layers;
    Attention(i, batch, kv.layer(i));
    backend_->AddRmsNorm(delta, residual, weights_.layers[i].post_attention_norm, eps, normed);
    FeedForward(i, n);
    backend_->AddRmsNorm(delta, residual,
                         is_last ? weights_.final_norm : weights_.layers[i + 1].input_norm, eps,
                         normed);
  }
}

void Model::Attention(int layer, const Batch& batch, const PagedKvView& kv) {
  const LayerWeights& w = weights_.layers[layer];
  const int64_t n = batch.num_tokens();
  const int64_t d = config_.head_dim;
  const KvSpec& spec = kv.spec;
  const TensorView normed = workspace_.normed(n);
  const TensorView q = workspace_.q(n);
  const TensorView k = workspace_.k(n, spec.key_heads);
  const TensorView v = workspace_.v(n, spec.value_heads);
  const TensorView attended = workspace_.attended(n);
  const TensorView cos_sin = workspace_.cos_sin(n);

  backend_->MatMul(normed, w.q_proj, w.q_bias, q);
  backend_->MatMul(normed, w.k_proj, w.k_bias, k);
  backend_->MatMul(normed, w.v_proj, w.v_bias, v);

  const TensorView q_heads = q.Reshape({n, config_.q_heads, d});
  backend_->PrepareQueries(
      {.q = q_heads, .gain = w.q_norm, .eps = config_.rms_norm_eps, .cos_sin = cos_sin});

  AppendKvArgs append{.k = k.Reshape({n, spec.key_heads, d}),
                      .v = v.Reshape({n, spec.value_heads, d}),
                      .slots = batch.slots(),
                      .cos_sin = cos_sin,
                      .gain = w.k_norm,
                      .eps = config_.rms_norm_eps,
                      .kv = kv};
  variant_->BeforeCache(w, append);
  backend_->AppendKv(append);

  PagedAttentionArgs attention{.q = q_heads,
                               .q_offsets = batch.q_offsets(),
                               .kv_lens = batch.kv_lens(),
                               .page_table = batch.page_table(),
                               .kv = kv,
                               .kv_heads = config_.kv_heads,
                               .window = config_.layer_windows[layer],
                               .scale = 1.0 / std::sqrt(static_cast<double>(d)),
                               .head_norm_eps = config_.head_norm_eps,
                               .out = attended.Reshape({n, config_.q_heads, d})};
  variant_->AtRead(w, attention);
  backend_->PagedAttention(attention);

  backend_->MatMul(attended, w.o_proj, w.o_bias, workspace_.delta(n));
}

void Model::FeedForward(int layer, int num_tokens) {
  const LayerWeights& w = weights_.layers[layer];
  const TensorView normed = workspace_.normed(num_tokens);
  const TensorView gate = workspace_.gate(num_tokens);
  const TensorView up = workspace_.up(num_tokens);
  backend_->MatMul(normed, w.gate_proj, w.gate_bias, gate);
  backend_->MatMul(normed, w.up_proj, w.up_bias, up);
  backend_->SwiGlu(gate, up, gate);
  backend_->MatMul(gate, w.down_proj, w.down_bias, workspace_.delta(num_tokens));
}

TensorView Model::Logits(std::span<const int32_t> rows) {
  const int n = static_cast<int>(rows.size());
  const TensorView hidden = workspace_.last_hidden(n);
  const TensorView logits = workspace_.logits(n);
  backend_->GatherRows(workspace_.normed(limits_.max_batch_tokens), TensorView::Of(rows), hidden);
  backend_->MatMul(hidden, weights_.lm_head, {}, logits);
  backend_->Synchronize();
  return logits;
}

KvLayout MakeKvLayout(const ModelConfig& config, DType dtype, int page_size) {
  KvLayout layout{.kv_heads = config.kv_heads, .page_size = page_size};
  for (int i = 0; i < config.num_layers; ++i) {
    layout.layers.push_back(config.LayerKvSpec(i, dtype));
  }
  return layout;
}

}  // namespace mea
