#include "engine/attention/kha.h"

#include "engine/storage/field_reader.h"
#include "engine/storage/mismatch.h"

namespace mea {

absl::StatusOr<std::shared_ptr<const AttentionVariant>> KhaAttention::Read(FieldReader& in,
                                                                           ModelConfig& config) {
  in.OnlyFields({"kind", "knock"});
  const std::string knock = in.String("knock");
  if (in.status().ok() && knock != "linear" && knock != "mlp") {
    in.Refuse("knock", "\"linear\" or \"mlp\"", ShownName(knock));
  }
  if (!RotaryOrder(config.rope, config.head_dim).empty() || config.layers.qk_row_norm) {
    in.Refuse("kind",
              "a base model whose heads rotate whole, each normalised by itself, below \"kha\"",
              ShownName(config.base_model_type));
  }
  if (!in.status().ok()) return in.status();
  return std::make_shared<const KhaAttention>(knock == "mlp" ? Knock::kMlp : Knock::kLinear);
}

void KhaAttention::ListTensors(const ModelConfig& config, int /*layer*/, const std::string& prefix,
                               LayerWeights& weights, TensorList& list) const {
  const std::vector<int64_t> shape = {config.head_dim, config.head_dim};
  if (is_mlp_) {
    weights.variant.resize(kNumWeights);
    list.Add(
        {.name = prefix + "knock_v_gate.weight", .view = &weights.variant[kGate], .shape = shape});
    list.Add({.name = prefix + "knock_v_up.weight",
              .view = &weights.variant[kUp],
              .shape = shape,
              .joins = true});
    list.Add(
        {.name = prefix + "knock_v_down.weight", .view = &weights.variant[kDown], .shape = shape});
    return;
  }
  const auto fold = [&](const char* name, TensorView& projection, TensorView& bias) {
    TensorView* knock = list.MakeTemporary();
    list.Add({.name = prefix + name,
              .view = knock,
              .shape = shape,
              .role = TensorRole::kMix,
              .is_temporary = true});
    list.Of(projection).head_transform = knock;
    if (config.qkv_bias) list.Of(bias).head_transform = knock;
  };
  fold("knock_q.weight", weights.q_proj, weights.q_bias);
  fold("knock_k.weight", weights.k_proj, weights.k_bias);
  fold("knock_v.weight", weights.v_proj, weights.v_bias);
}

// Gate and up, adjacent, of every head.
std::vector<RowBuffer> KhaAttention::Buffers(const ModelConfig& config) const {
  if (!is_mlp_) return {};
  return {{.columns = int64_t{config.kv_heads} * 2 * config.head_dim}};
}

std::vector<ProductShape> KhaAttention::Products(const ModelConfig& config) const {
  if (!is_mlp_) return {};
  const int d = config.head_dim;
  return {{.out_features = 2 * d, .in_features = d}, {.out_features = d, .in_features = d}};
}

OpCost KhaAttention::Cost(const AttentionLoad& load) const {
  const OpCost plain = AttentionVariant::Cost(load);
  if (!is_mlp_) return plain;
  const int64_t rows = load.num_tokens * load.config.kv_heads;
  const int64_t d = load.config.head_dim;
  const DType weights = load.dtypes.weights;
  const DType compute = load.dtypes.compute;
  return plain + MatMulCost(rows, d, 2 * d, weights, compute) + SigmoidGateCost(rows, d, compute) +
         MatMulCost(rows, d, d, weights, compute);
}

std::vector<std::pair<std::string, std::string>> KhaAttention::Describe(
    const ModelConfig& /*config*/, KvDTypes /*kv_dtype*/) const {
  return {{"knock", is_mlp_ ? "mlp of the values, before the cache"
                            : "linear, folded into q, k and v when loaded"}};
}

void KhaAttention::BeforeCache(const LayerWeights& layer, AttentionStep& step) const {
  if (!is_mlp_) return;
  const int64_t rows = step.append.v.shape[0] * step.append.v.shape[1];  // of heads
  const int64_t d = step.append.v.shape[2];
  const TensorView values = step.append.v.Reshape({rows, d});
  const TensorView gate_up = step.buffers[0].Reshape({rows, 2 * d});
  const TensorView gate = gate_up.Columns(0, d);
  const TensorView up = gate_up.Columns(d, d);
  const Projection projections[] = {{.w = layer.variant[kGate], .out = gate},
                                    {.w = layer.variant[kUp], .out = up}};
  step.backend.MatMul({.x = values, .projections = projections});
  step.backend.SigmoidGate({.gate = gate, .up = up, .scale = 2.0f, .out = gate});
  step.backend.MatMul(gate, {.w = layer.variant[kDown], .out = values});
}

}  // namespace mea
