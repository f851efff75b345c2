#include "engine/model/stage.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/device.h"
#include "engine/model/cache_layout.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

// Graphs of a device's part of a pass (Backend::Run): steps of single rows by their number of rows,
// and the output layer likewise.
constexpr int64_t kNoGraph = -1;
constexpr int64_t kLogitsKey = int64_t{1} << 32;

}  // namespace

absl::StatusOr<std::unique_ptr<Stage>> Stage::Create(const ModelConfig* config,
                                                     const ModelWeights* weights,
                                                     const ForwardHooks* hooks, StagePlace place,
                                                     const ModelLimits& limits) {
  Backend& backend = *place.backend;
  const bool has_output = place.layers.has_output(*config);
  MEA_ASSIGN_OR_RETURN(Workspace workspace,
                       Workspace::Create(*config, limits, has_output, backend));
  MEA_ASSIGN_OR_RETURN(StepInputs inputs, StepInputs::Create(limits, config->max_position,
                                                             NumKvGroups(*config), &backend));
  MEA_ASSIGN_OR_RETURN(Rotations rotations, Rotations::Create(*config, backend));
  MEA_ASSIGN_OR_RETURN(std::vector<Tensor> constants,
                       AttentionOf(*config).MakeConstants(*config, rotations.inv_freq(), backend));
  MEA_ASSIGN_OR_RETURN(RowProbe probe,
                       RowProbe::Create(config->hidden_size, limits.max_batch_tokens, &backend));
  MEA_ASSIGN_OR_RETURN(KeyBiases key_biases, KeyBiases::Create(*config, *weights, backend));
  return std::unique_ptr<Stage>(new Stage(
      config, weights, hooks, place, limits, std::move(workspace), std::move(inputs),
      std::move(rotations), std::move(constants), std::move(probe), std::move(key_biases)));
}

Stage::Stage(const ModelConfig* config, const ModelWeights* weights, const ForwardHooks* hooks,
             StagePlace place, const ModelLimits& limits, Workspace workspace, StepInputs inputs,
             Rotations rotations, std::vector<Tensor> constants, RowProbe probe,
             KeyBiases key_biases)
    : config_(*config),
      weights_(*weights),
      hooks_(*hooks),
      backend_(*place.backend),
      layers_(place.layers),
      limits_(limits),
      workspace_(std::move(workspace)),
      inputs_(std::move(inputs)),
      rotations_(std::move(rotations)),
      constants_(std::move(constants)),
      probe_(std::move(probe)),
      key_biases_(std::move(key_biases)),
      attention_(AttentionOf(config_)) {}

int64_t Stage::workspace_bytes() const {
  int64_t constants = 0;
  for (const Tensor& tensor : constants_) constants += tensor.num_bytes();
  return workspace_.num_bytes() + inputs_.num_bytes() + rotations_.num_bytes() + constants +
         probe_.num_bytes() + key_biases_.num_bytes();
}

int64_t Stage::PlannedWorkspaceBytes(const ModelConfig& config, const ModelLimits& limits,
                                     LayerRange layers, Device device) {
  const DeviceDefaults& defaults = DefaultsOf(device);
  const int64_t inputs =
      device == Device::kCpu
          ? 0
          : StepInputs::PlannedBytes(limits, config.max_position, NumKvGroups(config));
  return Workspace::PlannedBytes(config, limits, layers.has_output(config), defaults.compute,
                                 defaults.wide) +
         inputs + Rotations::PlannedBytes(config) +
         AttentionOf(config).PlannedConstantBytes(config, defaults.wide) +
         RowProbe::PlannedBytes(config.hidden_size, limits.max_batch_tokens, defaults.wide) +
         KeyBiases::PlannedBytes(config, device, defaults.wide);
}

void Stage::Receive(Stage& before) {
  backend_.Receive({.sender = &before.backend_, .from = before.residual(), .to = residual()});
}

void Stage::Run(const Batch& batch, const KvCache& kv) {
  backend_.Run(batch.is_decode() ? batch.num_tokens() : kNoGraph, [&] { Layers(kv); });
}

// The angles of the batch's positions, for all layers.
void Stage::Rotate() {
  const int n = num_rows();
  const ComputeRopeArgs rope = rotations_.rope(inputs_.positions, workspace_.cos_sin(n));
  backend_.ComputeRope(rope);
  if (config_.other_rope) {
    backend_.ComputeRope(rotations_.other_rope(inputs_.positions, workspace_.other_cos_sin(n)));
  }
  workspace_.variant_buffers(n, variant_buffers_);
  attention_.BeginStep(backend_, rope, variant_buffers_);
}

void Stage::Layers(const KvCache& kv) {
  const float eps = config_.rms_norm_eps;
  Rotate();
  if (layers_.has_embedding()) {
    backend_.Embed({.table = weights_.embedding,
                    .ids = inputs_.token_ids,
                    .scale = static_cast<float>(config_.embedding_scale),
                    .out = residual()});
  }
  backend_.RmsNorm({.x = residual(),
                    .gain = weights_.layers[layers_.begin].input_norm,
                    .eps = eps,
                    .out = normed()});
  // Adds the output of a block, and computes the input of the next one.
  const auto add = [&](TensorView delta_gain, TensorView next_gain) {
    backend_.AddRmsNorm({.delta = delta(),
                         .delta_gain = delta_gain,
                         .delta_scale = static_cast<float>(config_.residual_scale),
                         .residual = residual(),
                         .gain = next_gain,
                         .eps = eps,
                         .out = normed()});
  };
  // What follows the layer; another stage norms its input itself, whose gain is there.
  const auto next_gain = [&](int layer) {
    if (layer + 1 == config_.num_layers) return weights_.final_norm;
    return layer + 1 == layers_.end ? TensorView() : weights_.layers[layer + 1].input_norm;
  };
  for (int i = layers_.begin; i < layers_.end; ++i) {
    const LayerWeights& w = weights_.layers[i];
    Attention(i, kv);
    add(w.attention_output_norm, w.ffn_norm);
    FeedForward(i);
    add(w.ffn_output_norm, next_gain(i));
    if (hooks_.on_layer) hooks_.on_layer();
  }
}

void Stage::Attention(int layer, const KvCache& kv) {
  const LayerWeights& w = weights_.layers[layer];
  backend_.MatMul(Attended(layer, w, kv), {.w = w.o_proj, .bias = w.o_bias, .out = delta()});
}

TensorView Stage::Attended(int layer, const LayerWeights& w, const KvCache& cache) {
  const PagedKvView kv = cache.layer(layer);
  const int group = cache.layout().group_of(layer);
  const int n = num_rows();
  const KvSpec& spec = kv.spec;
  const bool rotates_otherwise = config_.other_rope && config_.other_rope_layers[layer];
  const TensorView cos_sin =
      rotates_otherwise ? workspace_.other_cos_sin(n) : workspace_.cos_sin(n);
  const auto [q, k, v] = workspace_.qkv(n, spec.key_heads, spec.value_heads);
  const TensorView q_heads = q.Split(config_.q_heads);
  const TensorView attended = workspace_.attended(n);

  const KeyBias key_bias = IsIntegerCache(spec.dtype.keys) ? key_biases_.layer(layer) : KeyBias();
  const TensorView k_bias = key_bias.empty() ? w.k_bias : TensorView();
  const Projection projections[] = {{.w = w.q_proj, .bias = w.q_bias, .out = q},
                                    {.w = w.k_proj, .bias = k_bias, .out = k},
                                    {.w = w.v_proj, .bias = w.v_bias, .out = v}};
  backend_.MatMul({.x = normed(), .projections = projections});
  if (hooks_.on_projections) hooks_.on_projections(layer, {.q = q, .k = k, .v = v});

  const float eps = config_.rms_norm_eps;
  const bool norms_rows = config_.layers.qk_row_norm;
  if (norms_rows) {
    backend_.NormRows({.x = q, .gain = w.q_norm, .eps = eps, .out = q});
    backend_.NormRows({.x = k, .gain = w.k_norm, .eps = eps, .out = k});
  }

  AttentionStep step{.backend = backend_,
                     .buffers = variant_buffers_,
                     .constants = constants_,
                     .queries = {.q = q_heads,
                                 .gain = norms_rows ? TensorView() : w.q_norm,
                                 .eps = eps,
                                 .cos_sin = cos_sin},
                     .append = {.k = k.Split(spec.key_heads),
                                .v = v.Split(spec.value_heads),
                                .slots = inputs_.slots[group],
                                .cos_sin = cos_sin,
                                .gain = norms_rows ? TensorView() : w.k_norm,
                                .eps = eps,
                                .kv = kv},
                     .read = {.q = q_heads,
                              .q_offsets = inputs_.q_offsets,
                              .kv_lens = inputs_.kv_lens,
                              .page_table = inputs_.page_table[group],
                              .host_q_offsets = inputs_.host_q_offsets,
                              .host_kv_lens = inputs_.host_kv_lens,
                              .kv = kv,
                              .key_bias = key_bias,
                              .kv_heads = config_.kv_heads,
                              .window = config_.layer_windows[layer],
                              .scale = config_.attention_scale > 0
                                           ? config_.attention_scale
                                           : 1.0 / std::sqrt(static_cast<double>(config_.head_dim)),
                              .head_norm_eps = config_.head_norm_eps,
                              .out = attended.Split(config_.q_heads)}};
  attention_.Attend(w, step);
  return attended;
}

void Stage::FeedForward(int layer) {
  const LayerWeights& w = weights_.layers[layer];
  if (config_.is_sparse(layer)) return Experts(w);
  backend_.MatMul(Activated(w), {.w = w.down_proj, .bias = w.down_bias, .out = delta()});
}

TensorView Stage::Activated(const LayerWeights& w) {
  const TensorView gate = workspace_.gate(num_rows());
  const TensorView up = workspace_.up(num_rows());
  const Projection projections[] = {{.w = w.gate_proj, .bias = w.gate_bias, .out = gate},
                                    {.w = w.up_proj, .bias = w.up_bias, .out = up}};
  backend_.MatMul({.x = normed(), .projections = projections});
  backend_.GatedActivation(
      {.gate = gate, .up = up, .activation = config_.layers.activation, .out = gate});
  return gate;
}

void Stage::Experts(const LayerWeights& w) {
  const int num_pairs = num_rows() * config_.moe.top_k;
  backend_.Moe({.x = normed(),
                .router = w.router,
                .experts = w.experts,
                .top_k = config_.moe.top_k,
                .renormalise = config_.moe.renormalise,
                .inner = workspace_.expert_inner(num_pairs),
                .rows = workspace_.expert_rows(num_pairs),
                .out = delta()});
}

TensorView Stage::Logits(std::span<const int32_t> rows) {
  const int num_rows = static_cast<int>(rows.size());
  // Padded as the rows of a step are, so that few graphs serve all numbers of rows.
  const int n = std::min(backend_.PaddedRows(num_rows), limits_.max_logit_rows);
  const TensorView device_rows = inputs_.SetRows(rows, n);
  const TensorView hidden = workspace_.last_hidden(n);
  const TensorView logits = workspace_.logits(n);
  backend_.Run(kLogitsKey + n, [&] {
    backend_.GatherRows(
        {.x = workspace_.normed(limits_.max_batch_tokens), .rows = device_rows, .out = hidden});
    backend_.MatMul(hidden, {.w = weights_.lm_head, .out = logits});
  });
  return logits.Rows(0, num_rows);
}

}  // namespace mea
