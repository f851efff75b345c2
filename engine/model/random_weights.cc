#include "engine/model/random_weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "engine/model/in_parallel.h"
#include "kernels/int8_rows.h"
#include "kernels/random_fill.h"
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

// The rows that begin among these elements.
void FillRows(TensorView view, const Distribution& distribution, int64_t begin, int64_t end) {
  const int64_t k = view.shape[1];
  std::vector<float> row(k);
  for (int64_t i = (begin + k - 1) / k; i < (end + k - 1) / k; ++i) {
    for (int64_t j = 0; j < k; ++j) row[j] = distribution.At(i * k + j);
    QuantizeRow(row.data(), k, view.row<int8_t>(i));
  }
}

void Fill(TensorView view, const Distribution& distribution, int64_t begin, int64_t end) {
  if (view.dtype == DType::kI8) return FillRows(view, distribution, begin, end);
  if (view.dtype == DType::kBf16) {
    for (int64_t i = begin; i < end; ++i) view.as<Bf16>()[i] = ToBf16(distribution.At(i));
  } else {
    for (int64_t i = begin; i < end; ++i) view.as<float>()[i] = distribution.At(i);
  }
}

// Where tensors come from and how they get their numbers.
class TensorSource {
 public:
  virtual ~TensorSource() = default;
  virtual absl::StatusOr<TensorView> Make(std::span<const int64_t> shape, DType dtype,
                                          const Distribution& distribution) = 0;
};

// Host memory, a tensor each, kept alive in `storage`.
class HostSource final : public TensorSource {
 public:
  HostSource(int num_threads, std::vector<Tensor>* storage)
      : num_threads_(num_threads), storage_(storage) {}

  absl::StatusOr<TensorView> Make(std::span<const int64_t> shape, DType dtype,
                                  const Distribution& distribution) override {
    absl::StatusOr<Tensor> tensor = dtype == DType::kI8 ? AllocateInt8Rows(shape[0], shape[1])
                                                        : Tensor::AllocateHost(shape, dtype);
    if (!tensor.ok()) return tensor.status();
    const TensorView view = tensor->view();
    constexpr int64_t kWorthAThread = 1 << 20;
    InParallel(view.num_elements(), kWorthAThread, num_threads_,
               [&](int64_t begin, int64_t end) { Fill(view, distribution, begin, end); });
    storage_->push_back(*std::move(tensor));
    return storage_->back().view();
  }

 private:
  const int num_threads_;
  std::vector<Tensor>* const storage_;
};

// How many bytes a DeviceSource must reserve.
class CountingSource final : public TensorSource {
 public:
  absl::StatusOr<TensorView> Make(std::span<const int64_t> shape, DType dtype,
                                  const Distribution&) override {
    const TensorView view =
        TensorView::Dense(this, dtype, shape);  // no memory: only its size counts
    num_bytes_ += PaddedBytes(view);
    return view;
  }

  int64_t num_bytes() const { return num_bytes_; }
  // Tensors begin where vector loads may. Sizes are multiples of that in all but odd models, so
  // that neighbours lie side by side.
  static int64_t PaddedBytes(TensorView view) {
    constexpr int64_t kAlignment = 64;
    return (view.num_elements() * DTypeSize(view.dtype) + kAlignment - 1) / kAlignment * kAlignment;
  }

 private:
  int64_t num_bytes_ = 0;
};

// A back end's memory: tensors of one reservation follow one another.
class DeviceSource final : public TensorSource {
 public:
  DeviceSource(Backend* backend, std::vector<Tensor>* storage)
      : backend_(backend), storage_(storage) {}

  absl::Status Reserve(int64_t bytes) {
    const std::array<int64_t, 1> shape = {bytes / DTypeSize(DType::kBf16)};
    absl::StatusOr<Tensor> chunk = backend_->Allocate(shape, DType::kBf16);
    if (!chunk.ok()) return chunk.status();
    next_ = static_cast<char*>(chunk->view().data);
    end_ = next_ + bytes;
    storage_->push_back(*std::move(chunk));
    return absl::OkStatus();
  }

  absl::StatusOr<TensorView> Make(std::span<const int64_t> shape, DType dtype,
                                  const Distribution& distribution) override {
    const TensorView view = TensorView::Dense(next_, dtype, shape, backend_->device());
    next_ += CountingSource::PaddedBytes(view);
    MEA_CHECK(next_ <= end_);
    const float bound = distribution.deviation * std::sqrt(3.0f);
    absl::Status filled = FillRandom(*backend_, view,
                                     {.low = distribution.mean - bound,
                                      .high = distribution.mean + bound,
                                      .seed = distribution.seed});
    if (!filled.ok()) return filled;
    return view;
  }

 private:
  Backend* const backend_;
  std::vector<Tensor>* const storage_;
  char* next_ = nullptr;
  char* end_ = nullptr;
};

// Makes one tensor after the other; the first failure sticks, and what follows stays absent.
class Maker {
 public:
  Maker(DType matrix_dtype, uint64_t seed, TensorSource* source)
      : matrix_dtype_(matrix_dtype), seed_(seed), source_(source) {}

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
    const absl::StatusOr<TensorView> made =
        source_->Make(std::span(shape.begin(), shape.size()), dtype,
                      {.mean = mean, .deviation = deviation, .seed = tensor_seed});
    status_ = made.status();
    if (!status_.ok()) return;
    view = *made;
    num_bytes_ += view.shape[0] * view.stride[0] * DTypeSize(dtype);
  }

  const absl::Status& status() const { return status_; }
  DType matrix_dtype() const { return matrix_dtype_; }
  int64_t num_bytes() const { return num_bytes_; }

 private:
  const DType matrix_dtype_;
  const uint64_t seed_;
  TensorSource* const source_;
  absl::Status status_;
  uint64_t num_made_ = 0;
  int64_t num_bytes_ = 0;
};

// The matrices of one product side by side, and those of all experts equally far apart.
void MakeExperts(const ModelConfig& config, Maker& make, LayerWeights& w) {
  const int64_t hidden = config.hidden_size;
  const int64_t ffn = config.moe.ffn_size;
  make.Matrix(w.router, config.moe.num_experts, hidden);
  w.experts.resize(config.moe.num_experts);
  for (Expert& expert : w.experts) {
    make.Matrix(expert.gate, ffn, hidden);
    make.Matrix(expert.up, ffn, hidden);
  }
  for (Expert& expert : w.experts) make.Matrix(expert.down, hidden, ffn);
}

void MakeLayer(const ModelConfig& config, int layer, Maker& make, LayerWeights& w) {
  const LayerHeads& heads = config.layer_heads[layer];
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
  if (config.knock == Knock::kMlp) {
    for (TensorView* knock : {&w.knock_v_up, &w.knock_v_gate, &w.knock_v_down}) {
      make.Matrix(*knock, d, d);
    }
  }
  const int64_t pseudo = h * heads.pseudo_heads;
  make.Mix(w.query_mix, pseudo > 0, h, pseudo);
  if (pseudo > 0) {
    make.Mix(w.mix.key, true, h, pseudo);
    make.Mix(w.mix.value, true, h, pseudo);
  }
  make.Mix(w.collapse, pseudo > 0, pseudo, h);
  make.Gain(w.post_attention_norm, {hidden});
  if (config.is_sparse(layer)) return MakeExperts(config, make, w);
  make.Matrix(w.gate_proj, ffn, hidden);
  make.Matrix(w.up_proj, ffn, hidden);
  make.Matrix(w.down_proj, hidden, ffn);
  make.Bias(w.gate_bias, config.mlp_bias, ffn);
  make.Bias(w.up_bias, config.mlp_bias, ffn);
  make.Bias(w.down_bias, config.mlp_bias, hidden);
}

void MakeEnds(const ModelConfig& config, Maker& make, ModelWeights& w) {
  make.Matrix(w.embedding, config.vocab_size, config.hidden_size);
  make.Gain(w.final_norm, {config.hidden_size});
  if (!config.tie_word_embeddings) make.Matrix(w.lm_head, config.vocab_size, config.hidden_size);
  if (config.tie_word_embeddings) w.lm_head = w.embedding;
}

// Makes everything; calls reserve(part) before each part, a function of (Maker&, ModelWeights&).
template <typename Reserve>
absl::Status MakeModel(const ModelConfig& config, Maker& make, const Reserve& reserve,
                       const LoadProgress& progress, ModelWeights& weights) {
  const int64_t bytes_total = progress ? PlannedRandomWeightBytes(config, make.matrix_dtype()) : 0;
  weights.layers.resize(config.num_layers);
  for (int i = -1; i < config.num_layers; ++i) {
    if (progress) progress("random weights", make.num_bytes(), bytes_total);
    const auto part = [&](Maker& maker, ModelWeights& w) {
      if (i < 0) return MakeEnds(config, maker, w);
      MakeLayer(config, i, maker, w.layers[i]);
    };
    if (absl::Status status = reserve(part); !status.ok()) return status;
    part(make, weights);
    if (!make.status().ok()) return make.status();
  }
  if (progress) progress("random weights", make.num_bytes(), bytes_total);
  weights.num_bytes = make.num_bytes();
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelWeights> MakeRandomWeights(const ModelConfig& config, DType matrix_dtype,
                                               uint64_t seed, int num_threads,
                                               const LoadProgress& progress) {
  MEA_CHECK(matrix_dtype == DType::kBf16 || matrix_dtype == DType::kF32 ||
            matrix_dtype == DType::kI8);
  ModelWeights weights;
  HostSource source(std::max(1, num_threads), &weights.storage);
  Maker make(matrix_dtype, seed, &source);
  absl::Status status = MakeModel(
      config, make, [](const auto&) { return absl::OkStatus(); }, progress, weights);
  if (!status.ok()) return status;
  return weights;
}

absl::StatusOr<ModelWeights> MakeRandomWeightsOn(Backend& backend, const ModelConfig& config,
                                                 uint64_t seed, const LoadProgress& progress) {
  const DType matrix_dtype = backend.weight_dtype().value_or(DType::kBf16);
  ModelWeights weights;
  DeviceSource source(&backend, &weights.storage);
  Maker make(matrix_dtype, seed, &source);
  const auto reserve = [&](const auto& part) {
    ModelWeights unmade;
    unmade.layers.resize(config.num_layers);
    CountingSource counting;
    Maker counter(matrix_dtype, seed, &counting);
    part(counter, unmade);
    return source.Reserve(counting.num_bytes());
  };
  absl::Status status = MakeModel(config, make, reserve, progress, weights);
  if (!status.ok()) return status;
  return weights;
}

int64_t PlannedRandomWeightBytes(const ModelConfig& config, DType matrix_dtype) {
  ModelWeights unmade;
  CountingSource counting;
  Maker counter(matrix_dtype, /*seed=*/0, &counting);
  const absl::Status status = MakeModel(
      config, counter, [](const auto&) { return absl::OkStatus(); }, {}, unmade);
  MEA_CHECK(status.ok());  // nothing is allocated
  return unmade.num_bytes;
}

}  // namespace mea
