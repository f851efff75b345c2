#include "engine/model/random_weights.h"

#include <algorithm>
#include <cmath>
#include <thread>
#include <vector>

#include "kernels/uniform.h"

namespace mea {
namespace {

// Element i of a tensor: uniform around `mean` with this standard deviation.
struct Distribution {
  float mean = 0;
  float deviation = 1;
  uint64_t seed = 0;

  float At(int64_t i) const {
    const uint64_t bits = MixBits(seed + static_cast<uint64_t>(i));
    const float centred = static_cast<float>(bits >> 40) * 0x1p-23f - 1.0f;  // [-1, 1)
    return mean + deviation * std::sqrt(3.0f) * centred;
  }
};

void Fill(TensorView view, const Distribution& distribution, int64_t begin, int64_t end) {
  if (view.dtype == DType::kBf16) {
    for (int64_t i = begin; i < end; ++i) view.as<Bf16>()[i] = ToBf16(distribution.At(i));
  } else {
    for (int64_t i = begin; i < end; ++i) view.as<float>()[i] = distribution.At(i);
  }
}

void FillInParallel(TensorView view, const Distribution& distribution, int num_threads) {
  constexpr int64_t kWorthAThread = 1 << 20;
  const int64_t count = view.num_elements();
  const int64_t parts = std::clamp<int64_t>(count / kWorthAThread, 1, num_threads);
  std::vector<std::thread> threads;
  for (int64_t part = 1; part < parts; ++part) {
    threads.emplace_back(
        [=] { Fill(view, distribution, count * part / parts, count * (part + 1) / parts); });
  }
  Fill(view, distribution, 0, count / parts);
  for (std::thread& thread : threads) thread.join();
}

// Makes one tensor after the other; the first failure sticks, and what follows stays absent.
class Maker {
 public:
  Maker(DType matrix_dtype, uint64_t seed, int num_threads, ModelWeights* weights)
      : matrix_dtype_(matrix_dtype), seed_(seed), num_threads_(num_threads), weights_(weights) {}

  void Matrix(TensorView& view, int64_t out, int64_t in) {
    const float deviation = 1.0f / std::sqrt(static_cast<float>(in));
    Make(view, {out, in}, matrix_dtype_, 0, deviation);
  }
  void Gain(TensorView& view, std::initializer_list<int64_t> shape) {
    Make(view, shape, DType::kF32, 1.0f, 0.1f);
  }
  void Bias(TensorView& view, bool present, int64_t size) {
    if (present) Make(view, {size}, DType::kF32, 0, 0.1f);
  }
  void Mix(TensorView& view, bool present, int64_t components, int64_t heads) {
    if (!present) return;
    Make(view, {components, heads}, DType::kF32, 0,
         1.0f / std::sqrt(static_cast<float>(components)));
  }
  void Make(TensorView& view, std::initializer_list<int64_t> shape, DType dtype, float mean,
            float deviation) {
    const uint64_t tensor_seed = MixBits(seed_ + 0x9e3779b97f4a7c15u * ++num_made_);
    if (!status_.ok()) return;
    absl::StatusOr<Tensor> tensor =
        Tensor::AllocateHost(std::span(shape.begin(), shape.size()), dtype);
    status_ = tensor.status();
    if (!status_.ok()) return;
    view = tensor->view();
    FillInParallel(view, {.mean = mean, .deviation = deviation, .seed = tensor_seed}, num_threads_);
    weights_->num_bytes += tensor->num_bytes();
    weights_->storage.push_back(*std::move(tensor));
  }

  const absl::Status& status() const { return status_; }

 private:
  const DType matrix_dtype_;
  const uint64_t seed_;
  const int num_threads_;
  ModelWeights* const weights_;
  absl::Status status_;
  uint64_t num_made_ = 0;
};

void MakeLayer(const ModelConfig& config, const LayerHeads& heads, Maker& make, LayerWeights& w) {
  const int64_t hidden = config.hidden_size;
  const int64_t ffn = config.ffn_size;
  const int64_t d = config.head_dim;
  const int64_t h = config.kv_heads;
  make.Gain(w.input_norm, {hidden});
  make.Matrix(w.q_proj, config.q_heads * d, hidden);
  make.Matrix(w.k_proj, heads.key_heads * d, hidden);
  make.Matrix(w.v_proj, heads.value_heads * d, hidden);
  make.Matrix(w.o_proj, hidden, config.q_heads * d);
  make.Bias(w.q_bias, config.qkv_bias, config.q_heads * d);
  make.Bias(w.k_bias, config.qkv_bias, heads.key_heads * d);
  make.Bias(w.v_bias, config.qkv_bias, heads.value_heads * d);
  make.Bias(w.o_bias, config.o_bias, hidden);
  if (config.qk_norm) {
    make.Gain(w.q_norm, {d});
    make.Gain(w.k_norm, {d});
  }
  make.Mix(w.mix.key, heads.key_mix, heads.key_heads, h);
  make.Mix(w.mix.value, heads.value_mix, heads.value_heads, h);
  if (config.head_norm == HeadNorm::kRms) make.Gain(w.head_norm_gain, {config.q_heads, d});
  make.Gain(w.post_attention_norm, {hidden});
  make.Matrix(w.gate_proj, ffn, hidden);
  make.Matrix(w.up_proj, ffn, hidden);
  make.Matrix(w.down_proj, hidden, ffn);
  make.Bias(w.gate_bias, config.mlp_bias, ffn);
  make.Bias(w.up_bias, config.mlp_bias, ffn);
  make.Bias(w.down_bias, config.mlp_bias, hidden);
}

}  // namespace

absl::StatusOr<ModelWeights> MakeRandomWeights(const ModelConfig& config, DType matrix_dtype,
                                               uint64_t seed, int num_threads,
                                               const LoadProgress& progress) {
  MEA_CHECK(matrix_dtype == DType::kBf16 || matrix_dtype == DType::kF32);
  ModelWeights weights;
  Maker make(matrix_dtype, seed, std::max(1, num_threads), &weights);
  make.Matrix(weights.embedding, config.vocab_size, config.hidden_size);
  weights.layers.resize(config.num_layers);
  for (int i = 0; i < config.num_layers; ++i) {
    if (progress) progress(i, config.num_layers);
    MakeLayer(config, config.layer_heads[i], make, weights.layers[i]);
  }
  make.Gain(weights.final_norm, {config.hidden_size});
  if (config.tie_word_embeddings) {
    weights.lm_head = weights.embedding;
  } else {
    make.Matrix(weights.lm_head, config.vocab_size, config.hidden_size);
  }
  if (!make.status().ok()) return make.status();
  if (progress) progress(config.num_layers, config.num_layers);
  return weights;
}

}  // namespace mea
