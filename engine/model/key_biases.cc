#include "engine/model/key_biases.h"

#include <array>

#include "engine/attention/variant.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

// A device keeps such keys in BF16.
bool HasKeyBiases(const ModelConfig& config, Device device) {
  return device == Device::kCpu && KeyBiases::AreApart(config);
}

int64_t NumStrides(const ModelConfig& config) {
  return (int64_t{config.max_position} + KeyBias::kStride - 1) / KeyBias::kStride;
}

// [count, head_dim]: of every `step`-th position.
absl::StatusOr<Tensor> Angles(const RopeFrequencies& rope, double factor, int64_t count, int step,
                              Backend& backend) {
  std::vector<int32_t> positions(count);
  for (int64_t i = 0; i < count; ++i) positions[i] = static_cast<int32_t>(i) * step;
  const std::array<int64_t, 2> shape = {count, 2 * std::ssize(rope.inv_freq)};
  MEA_ASSIGN_OR_RETURN(Tensor angles, backend.Allocate(shape, backend.wide_dtype()));
  backend.ComputeRope({.positions = TensorView::Of(std::span<const int32_t>(positions)),
                       .inv_freq = TensorView::Of(std::span(rope.inv_freq)),
                       .attention_factor = factor,
                       .out = angles.view()});
  MEA_RETURN_IF_ERROR(backend.Synchronize());
  return angles;
}

template <typename T>
void Transpose(TensorView from, TensorView to) {
  for (int64_t i = 0; i < from.shape[0]; ++i) {
    for (int64_t j = 0; j < from.shape[1]; ++j) to.row<T>(j)[i] = from.row<T>(i)[j];
  }
}

// sum_c W[c, g] b_c of every head; b itself if heads are not mixed.
void Compose(TensorView bias, TensorView mix, int heads, int head_dim, float* out) {
  for (int g = 0; g < heads; ++g) {
    for (int i = 0; i < head_dim; ++i) {
      double sum = mix.empty() ? bias.as<float>()[g * head_dim + i] : 0;
      for (int64_t c = 0; !mix.empty() && c < mix.shape[0]; ++c) {
        sum += double{mix.row<float>(c)[g]} * bias.as<float>()[c * head_dim + i];
      }
      out[g * head_dim + i] = static_cast<float>(sum);
    }
  }
}

}  // namespace

bool KeyBiases::AreApart(const ModelConfig& config) {
  return config.qkv_bias && !config.layers.qk_norm && !config.layers.qk_row_norm &&
         !config.other_rope;
}

absl::StatusOr<KeyBiases> KeyBiases::Create(const ModelConfig& config, const ModelWeights& weights,
                                            Backend& backend) {
  KeyBiases biases;
  if (!HasKeyBiases(config, backend.device())) return biases;
  const RopeFrequencies rope =
      ComputeRopeFrequencies(config.rope, config.head_dim, config.max_position);
  MEA_ASSIGN_OR_RETURN(Tensor strides,
                       Angles(rope, 1.0, NumStrides(config), KeyBias::kStride, backend));
  MEA_ASSIGN_OR_RETURN(const Tensor offsets,
                       Angles(rope, rope.attention_factor, KeyBias::kStride, 1, backend));
  const std::array<int64_t, 2> transposed = {config.head_dim, KeyBias::kStride};
  MEA_ASSIGN_OR_RETURN(Tensor by_element, backend.Allocate(transposed, backend.wide_dtype()));
  if (backend.wide_dtype() == DType::kF64) {
    Transpose<double>(offsets.view(), by_element.view());
  } else {
    Transpose<float>(offsets.view(), by_element.view());
  }
  const std::array<int64_t, 2> shape = {config.num_layers,
                                        int64_t{config.kv_heads} * config.head_dim};
  MEA_ASSIGN_OR_RETURN(Tensor heads, backend.Allocate(shape, DType::kF32));
  for (int i = 0; i < config.num_layers; ++i) {
    const LayerWeights& layer = weights.layers[i];
    biases.apart_.push_back(!layer.k_bias.empty() &&
                            AttentionOf(config).can_add_key_bias(config, i));
    if (!biases.apart_[i]) continue;
    Compose(layer.k_bias, layer.mix.key, config.kv_heads, config.head_dim,
            heads.view().row<float>(i));
  }
  biases.heads_ = std::move(heads);
  biases.strides_ = std::move(strides);
  biases.offsets_ = std::move(by_element);
  biases.kv_heads_ = config.kv_heads;
  return biases;
}

int64_t KeyBiases::PlannedBytes(const ModelConfig& config, Device device, DType wide) {
  if (!HasKeyBiases(config, device)) return 0;
  const int64_t d = config.head_dim;
  return config.num_layers * config.kv_heads * d * DTypeSize(DType::kF32) +
         (NumStrides(config) + KeyBias::kStride) * d * DTypeSize(wide);
}

KeyBias KeyBiases::layer(int index) const {
  if (apart_.empty() || !apart_[index]) return {};
  const int64_t d = offsets_.view().shape[0];
  return {.heads = heads_.view().Rows(index, 1).Reshape({kv_heads_, d}),
          .strides = strides_.view(),
          .offsets = offsets_.view()};
}

int64_t KeyBiases::num_bytes() const {
  return heads_.num_bytes() + strides_.num_bytes() + offsets_.num_bytes();
}

}  // namespace mea
