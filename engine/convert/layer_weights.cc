#include "engine/convert/layer_weights.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "engine/model/model_weights.h"
#include "engine/weights/load_tensors.h"

namespace mea::convert {
namespace {

// Widens tensors of one layer; the first refusal sticks.
class LayerReader {
 public:
  LayerReader(const Checkpoint& checkpoint, int layer)
      : tensors_(checkpoint.tensors),
        list_(ListTensors(checkpoint.config, views_)),
        layer_(views_.layers[layer]) {}

  LayerWeights& layer() { return layer_; }

  // Empty where the configuration has no such tensor. A vector has one column.
  Matrix Read(TensorView& view) {
    const TensorSpec* spec = list_.Find(view);
    if (spec == nullptr || !status_.ok()) return {};
    TensorList wanted;
    wanted.Add(*spec);
    ModelWeights memory;
    status_ = LoadTensors(
        tensors_, wanted, [](std::string_view) { return true; }, std::nullopt,
        {.weight_dtype = DType::kF32}, {}, memory);
    if (!status_.ok()) return {};
    Matrix matrix(view.shape[0], view.rank == 2 ? view.shape[1] : 1);
    std::copy_n(view.as<float>(), view.num_elements(), matrix.values.begin());
    return matrix;
  }

  const absl::Status& status() const { return status_; }

 private:
  const SafeTensors& tensors_;
  ModelWeights views_;
  const TensorList list_;
  LayerWeights& layer_;
  absl::Status status_;
};

}  // namespace

void HealedWeights::ApplyTo(LayerMatrices& weights) const {
  const auto apply = [](const FloatMatrix& from, Matrix& to) {
    if (from.empty()) return;
    to = Matrix(from.rows, from.cols);
    std::copy(from.values.begin(), from.values.end(), to.values.begin());
  };
  apply(q, weights.q);
  apply(k, weights.k);
  apply(v, weights.v);
  apply(o, weights.o);
  apply(gate, weights.gate);
  apply(up, weights.up);
  apply(down, weights.down);
}

std::string AttentionPrefix(int layer) {
  return absl::StrCat("model.layers.", layer, ".self_attn.");
}

absl::StatusOr<LayerMatrices> ReadLayerMatrices(const Checkpoint& checkpoint, int layer) {
  LayerReader in(checkpoint, layer);
  LayerWeights& from = in.layer();
  LayerMatrices w;
  w.q = in.Read(from.q_proj);
  w.k = in.Read(from.k_proj);
  w.v = in.Read(from.v_proj);
  w.o = in.Read(from.o_proj);
  w.q_bias = in.Read(from.q_bias);
  w.k_bias = in.Read(from.k_bias);
  w.v_bias = in.Read(from.v_bias);
  if (checkpoint.config.layers.qk_norm) {
    w.q_norm = in.Read(from.q_norm).values;
    w.k_norm = in.Read(from.k_norm).values;
  }
  w.k_hlc = in.Read(from.mix.key);
  w.v_hlc = in.Read(from.mix.value);
  if (!in.status().ok()) return in.status();
  return w;
}

absl::StatusOr<std::vector<double>> ReadQueryNorm(const Checkpoint& checkpoint, int layer) {
  if (!checkpoint.config.layers.qk_norm) return std::vector<double>();
  LayerReader in(checkpoint, layer);
  std::vector<double> gain = in.Read(in.layer().q_norm).values;
  if (!in.status().ok()) return in.status();
  return gain;
}

}  // namespace mea::convert
