#include "tests/support/random_model.h"

#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "engine/attention/iha.h"
#include "engine/attention/kha.h"
#include "engine/attention/mea.h"
#include "kernels/matrix.h"

namespace mea::testing {
namespace {

class WeightMaker {
 public:
  WeightMaker(const RandomModelSpec& spec, ModelWeights* weights)
      : spec_(spec), weights_(weights) {}

  // A projection, scaled to keep activations of order one.
  TensorView Matrix(const std::string& name, int64_t out, int64_t in) {
    return Random(name, {out, in}, spec_.dtype, 0.0f, 1.5f / std::sqrt(static_cast<float>(in)));
  }
  TensorView Gain(const std::string& name, int64_t size) {
    return Random(name, {size}, DType::kF32, 1.0f, 0.3f);
  }
  TensorView Bias(const std::string& name, int64_t size) {
    return spec_.biases ? Random(name, {size}, DType::kF32, 0.0f, 0.2f) : TensorView{};
  }
  TensorView Mix(const std::string& name, int64_t components, int64_t heads) {
    TensorView mix = Random(name, {components, heads}, DType::kF32, 0.0f, 0.8f);
    if (!spec_.one_hot_mix) return mix;
    for (int64_t c = 0; c < components; ++c) {
      for (int64_t g = 0; g < heads; ++g) mix.row<float>(c)[g] = c == g ? 1.0f : 0.0f;
    }
    return mix;
  }
  TensorView RandomRows(const std::string& name, int64_t rows, int64_t k, float deviation) {
    absl::StatusOr<Tensor> tensor = AllocateMatrix(rows, k, spec_.dtype);
    MEA_CHECK(tensor.ok());
    std::mt19937_64 generator(spec_.seed ^ std::hash<std::string>()(name));
    std::normal_distribution<float> normal(0, deviation);
    std::vector<float> row(k);
    for (int64_t i = 0; i < rows; ++i) {
      for (float& x : row) x = normal(generator);
      RoundRow(row.data(), tensor->view(), i);
    }
    weights_->num_bytes += tensor->num_bytes();
    weights_->storage.push_back(*std::move(tensor));
    return weights_->storage.back().view();
  }
  TensorView Random(const std::string& name, std::initializer_list<int64_t> shape, DType dtype,
                    float mean, float deviation) {
    if (IsRounded(dtype)) return RandomRows(name, *shape.begin(), *(shape.end() - 1), deviation);
    absl::StatusOr<Tensor> tensor =
        Tensor::AllocateHost(std::span(shape.begin(), shape.size()), dtype);
    MEA_CHECK(tensor.ok());
    std::mt19937_64 generator(spec_.seed ^ std::hash<std::string>()(name));
    std::normal_distribution<float> normal(mean, deviation);
    const TensorView view = tensor->view();
    for (int64_t i = 0; i < view.num_elements(); ++i) {
      const float x = normal(generator);
      if (dtype == DType::kBf16) {
        view.as<Bf16>()[i] = ToBf16(x);
      } else {
        view.as<float>()[i] = x;
      }
    }
    weights_->num_bytes += tensor->num_bytes();
    weights_->storage.push_back(*std::move(tensor));
    return view;
  }

 private:
  const RandomModelSpec& spec_;
  ModelWeights* weights_;
};

LayerWeights MakeLayer(const RandomModelSpec& spec, const ModelConfig& config, int index,
                       WeightMaker& make) {
  const LayerHeads& heads = config.layer_heads[index];
  const std::string prefix = "layer" + std::to_string(index) + ".";
  const int64_t hidden = spec.hidden_size;
  const int64_t d = spec.head_dim;
  LayerWeights w;
  w.input_norm = make.Gain(prefix + "input_norm", hidden);
  w.q_proj = make.Matrix(prefix + "q", spec.q_heads * d, hidden);
  w.k_proj = make.Matrix(prefix + "k", heads.key_heads * d, hidden);
  w.v_proj = make.Matrix(prefix + "v", heads.value_heads * d, hidden);
  w.o_proj = make.Matrix(prefix + "o", hidden, spec.q_heads * d);
  w.q_bias = make.Bias(prefix + "q_bias", spec.q_heads * d);
  w.k_bias = make.Bias(prefix + "k_bias", heads.key_heads * d);
  for (int64_t i = 0; spec.key_bias > 0 && i < w.k_bias.num_elements(); ++i) {
    w.k_bias.as<float>()[i] += i % 3 == 0 ? -spec.key_bias : spec.key_bias;
  }
  w.v_bias = make.Bias(prefix + "v_bias", heads.value_heads * d);
  if (spec.qk_norm) {
    w.q_norm = make.Gain(prefix + "q_norm", d);
    w.k_norm = make.Gain(prefix + "k_norm", d);
  }
  if (heads.key_mix) w.mix.key = make.Mix(prefix + "key_mix", heads.key_heads, spec.kv_heads);
  if (heads.value_mix)
    w.mix.value = make.Mix(prefix + "value_mix", heads.value_heads, spec.kv_heads);
  if (spec.head_norm) {
    w.head_norm_gain =
        make.Random(prefix + "head_norm", {spec.q_heads, d}, DType::kF32, 1.0f, 0.3f);
  }
  if (spec.knock) {
    w.variant.resize(KhaAttention::kNumWeights);
    w.variant[KhaAttention::kUp] = make.Matrix(prefix + "knock_v_up", d, d);
    w.variant[KhaAttention::kGate] = make.Matrix(prefix + "knock_v_gate", d, d);
    w.variant[KhaAttention::kDown] = make.Matrix(prefix + "knock_v_down", d, d);
  }
  if (spec.pseudo_heads > 0 && config.layer_windows[index] > 0) {
    const int64_t pseudo = int64_t{spec.pseudo_heads} * spec.kv_heads;
    w.variant.resize(IhaAttention::kNumWeights);
    w.variant[IhaAttention::kQueryMix] = make.Mix(prefix + "query_mix", spec.kv_heads, pseudo);
    w.mix.key = make.Mix(prefix + "key_mix", spec.kv_heads, pseudo);
    w.mix.value = make.Mix(prefix + "value_mix", spec.kv_heads, pseudo);
    w.variant[IhaAttention::kCollapse] = make.Mix(prefix + "collapse", pseudo, spec.kv_heads);
  }
  w.ffn_norm = make.Gain(prefix + "post_norm", hidden);
  if (config.is_sparse(index)) {
    w.router = make.Matrix(prefix + "router", spec.num_experts, hidden);
    w.experts.resize(spec.num_experts);
    for (int e = 0; e < spec.num_experts; ++e) {
      const std::string name = prefix + "expert" + std::to_string(e);
      w.experts[e].gate = make.Matrix(name + ".gate", spec.expert_ffn_size, hidden);
      w.experts[e].up = make.Matrix(name + ".up", spec.expert_ffn_size, hidden);
      w.experts[e].down = make.Matrix(name + ".down", hidden, spec.expert_ffn_size);
    }
    return w;
  }
  w.gate_proj = make.Matrix(prefix + "gate", spec.ffn_size, hidden);
  w.up_proj = make.Matrix(prefix + "up", spec.ffn_size, hidden);
  w.down_proj = make.Matrix(prefix + "down", hidden, spec.ffn_size);
  return w;
}

}  // namespace

ModelConfig MakeConfig(const RandomModelSpec& spec) {
  ModelConfig config;
  config.model_type = spec.plain ? "llama" : "mea";
  config.base_model_type = "llama";
  config.hidden_size = spec.hidden_size;
  config.num_layers = spec.num_layers;
  config.q_heads = spec.q_heads;
  config.kv_heads = spec.kv_heads;
  config.head_dim = spec.head_dim;
  config.ffn_size = spec.ffn_size;
  config.vocab_size = spec.vocab_size;
  config.max_position = spec.max_position;
  config.qkv_bias = spec.biases;
  config.layers.qk_norm = spec.qk_norm;
  config.layer_windows.assign(spec.num_layers, spec.window);
  if (spec.global_layer >= 0) config.layer_windows[spec.global_layer] = 0;
  if (spec.num_experts > 0) {
    config.sparse_layers.assign(spec.num_layers, true);
    if (spec.dense_first_layer) config.sparse_layers[0] = false;
    config.moe = {.num_experts = spec.num_experts,
                  .top_k = spec.top_k,
                  .ffn_size = spec.expert_ffn_size,
                  .renormalise = spec.renormalise};
  }
  config.head_norm = spec.head_norm ? HeadNorm::kRms : HeadNorm::kNone;
  if (spec.knock) {
    config.composition = "kha";
    config.attention = std::make_shared<const KhaAttention>(KhaAttention::Knock::kMlp);
  } else if (spec.pseudo_heads > 0) {
    MEA_CHECK(spec.window > 0);
    config.composition = "iha";
    config.attention = std::make_shared<const IhaAttention>(spec.pseudo_heads);
  } else if (!spec.plain) {
    config.composition = "mea";
    config.attention = std::make_shared<const MeaAttention>();
  }
  const bool composes = !spec.plain && !spec.knock && spec.pseudo_heads == 0;
  for (int i = 0; i < spec.num_layers; ++i) {
    const bool plain = spec.plain_last_layer && i + 1 == spec.num_layers;
    const bool composed = composes && !plain;
    const bool full = !composed || spec.one_hot_mix;
    config.layer_heads.push_back({.key_heads = full ? spec.kv_heads : spec.key_heads,
                                  .value_heads = full ? spec.kv_heads : spec.value_heads,
                                  .key_mix = composed,
                                  .value_mix = composed});
    if (spec.pseudo_heads > 0 && plain) config.layer_windows[i] = 0;
  }
  return config;
}

ModelWeights MakeWeights(const RandomModelSpec& spec, const ModelConfig& config) {
  ModelWeights weights;
  WeightMaker make(spec, &weights);
  weights.embedding =
      make.Random("embedding", {spec.vocab_size, spec.hidden_size}, spec.dtype, 0.0f, 1.0f);
  if (spec.nan_token >= 0) {
    const TensorView row = weights.embedding.Rows(spec.nan_token, 1);
    std::memset(row.data, 0xff, row.num_elements() * DTypeSize(row.dtype));
  }
  for (int i = 0; i < spec.num_layers; ++i) {
    weights.layers.push_back(MakeLayer(spec, config, i, make));
  }
  weights.final_norm = make.Gain("final_norm", spec.hidden_size);
  weights.lm_head = make.Matrix("lm_head", spec.vocab_size, spec.hidden_size);
  return weights;
}

}  // namespace mea::testing
