#include "engine/attention/mea.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/storage/field_reader.h"
#include "engine/storage/mismatch.h"

namespace mea {
namespace {

constexpr NumberRange kHeadNormEpsRange{0.0, 1.0};

// h' of every layer from an integer or a list of one per layer.
std::vector<int> ReadComponentHeads(FieldReader& in, const char* name, const ModelConfig& config) {
  std::vector<int> heads = in.IntOrList(name, {1, config.kv_heads});
  if (in.status().ok() && heads.empty() && !in.Get(name)) {
    in.Refuse(name, absl::StrCat("an integer in 1..", config.kv_heads, " or a list of them"),
              "no such field");
  }
  if (in.Get(name) != nullptr && !in.Get(name)->is_array())
    heads.resize(config.num_layers, heads[0]);
  if (in.status().ok() && static_cast<int>(heads.size()) != config.num_layers) {
    in.Refuse(name, absl::StrCat("one entry per layer (", config.num_layers, ")"),
              absl::StrCat(heads.size(), " entries"));
  }
  return heads;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const AttentionVariant>> MeaAttention::Read(FieldReader& in,
                                                                           ModelConfig& config) {
  in.OnlyFields({"kind", "num_component_key_heads", "num_component_value_heads", "head_norm",
                 "head_norm_eps"});
  const std::vector<int> keys = ReadComponentHeads(in, "num_component_key_heads", config);
  const std::vector<int> values = ReadComponentHeads(in, "num_component_value_heads", config);
  const std::string norm = in.String("head_norm", "none");
  if (norm != "none" && norm != "rms")
    in.Refuse("head_norm", "\"rms\" or \"none\"", ShownName(norm));
  config.head_norm = norm == "rms" ? HeadNorm::kRms : HeadNorm::kNone;
  config.head_norm_eps = static_cast<float>(in.Number("head_norm_eps", kHeadNormEpsRange, 1e-5));
  const auto composes = [&](int heads) { return heads < config.kv_heads; };
  if (config.layers.qk_row_norm && std::any_of(keys.begin(), keys.end(), composes)) {
    in.Refuse("num_component_key_heads",
              absl::StrCat(config.kv_heads, ", since ", config.base_model_type,
                           " normalises the keys of all heads together"),
              "fewer");
  }
  if (!in.status().ok()) return in.status();
  for (int layer = 0; layer < config.num_layers; ++layer) {
    config.layer_heads[layer] = {.key_heads = keys[layer],
                                 .value_heads = values[layer],
                                 .key_mix = keys[layer] < config.kv_heads,
                                 .value_mix = values[layer] < config.kv_heads};
  }
  return std::make_shared<const MeaAttention>();
}

// If h' = h the configuration does not say whether W_lc is the identity; the tensor does.
void MeaAttention::SettleLayers(const SafeTensors& tensors, ModelConfig& config) const {
  for (int layer = 0; layer < config.num_layers; ++layer) {
    const std::string prefix = absl::StrCat("model.layers.", layer, ".self_attn.");
    LayerHeads& heads = config.layer_heads[layer];
    heads.key_mix |= !config.layers.qk_row_norm && tensors.Find(prefix + "k_hlc.weight");
    heads.value_mix |= tensors.Find(prefix + "v_hlc.weight") != nullptr;
  }
}

void MeaAttention::ListTensors(const ModelConfig& config, int layer, const std::string& prefix,
                               LayerWeights& weights, TensorList& list) const {
  const LayerHeads& heads = config.layer_heads[layer];
  const int64_t d = config.head_dim;
  if (heads.key_mix) {
    list.Add({.name = prefix + "k_hlc.weight",
              .view = &weights.mix.key,
              .shape = {heads.key_heads, config.kv_heads},
              .role = TensorRole::kMix});
  }
  if (heads.value_mix) {
    list.Add({.name = prefix + "v_hlc.weight",
              .view = &weights.mix.value,
              .shape = {heads.value_heads, config.kv_heads},
              .role = TensorRole::kMix});
  }
  if (config.head_norm == HeadNorm::kRms) {
    list.Add({.name = prefix + "head_norm.weight",
              .view = &weights.head_norm_gain,
              .shape = {config.q_heads, d},
              .role = TensorRole::kGain,
              .stored_shape = {config.q_heads * d},
              .repeated_shape = {d}});  // for all heads alike
  }
}

// With QK-norm the virtual keys' norms are cached as one scalar per (token, virtual head): exact,
// since the norm divides each logit by a number that does not depend on the query.
void MeaAttention::BeforeCache(const LayerWeights& layer, AttentionStep& step) const {
  step.append.key_mix = layer.mix.key;
}

void MeaAttention::AtRead(const LayerWeights& layer, AttentionStep& step) const {
  step.read.mix = layer.mix;
  step.read.head_norm_gain = layer.head_norm_gain;
}

}  // namespace mea
