#include "engine/convert/layer_walk.h"

#include <array>

#include "kernels/status_macros.h"

namespace mea::convert {

absl::StatusOr<std::unique_ptr<LayerWalk>> LayerWalk::Create(const Checkpoint& checkpoint,
                                                             std::span<const Document> documents,
                                                             int num_threads) {
  std::unique_ptr<LayerWalk> walk(new LayerWalk(documents));
  MEA_ASSIGN_OR_RETURN(walk->reader_, Reader::Create(checkpoint, {.num_threads = num_threads}));
  return walk;
}

absl::StatusOr<Tensor> LayerWalk::NewStream(int64_t columns) const {
  return Tensor::AllocateHost(std::array{num_tokens_, columns}, DType::kF32);
}

void LayerWalk::Embed(const Tensor& stream) {
  ForEachBatch([&](Rows rows) {
    backend().Embed({.table = reader_->model().weights().embedding,
                     .ids = reader_->token_ids(),
                     .scale = static_cast<float>(config().embedding_scale),
                     .out = rows.Of(stream)});
  });
}

TensorView LayerWalk::Read(const Tensor& stream, Rows rows, TensorView gain) {
  const TensorView normed = reader_->model().normed();
  backend().RmsNorm(
      {.x = rows.Of(stream), .gain = gain, .eps = config().rms_norm_eps, .out = normed});
  return normed;
}

TensorView LayerWalk::Multiply(TensorView x, TensorView w, TensorView bias) {
  const TensorView delta = reader_->model().delta();
  backend().MatMul(x, {.w = w, .bias = bias, .out = delta});
  return delta;
}

TensorView LayerWalk::Experts(const LayerWeights& w) {
  reader_->model().Experts(w);
  return reader_->model().delta();
}

void LayerWalk::Add(const Tensor& stream, Rows rows, TensorView output_norm) {
  backend().AddRmsNorm({.delta = reader_->model().delta(),
                        .delta_gain = output_norm,
                        .delta_scale = static_cast<float>(config().residual_scale),
                        .residual = rows.Of(stream),
                        .eps = config().rms_norm_eps,
                        .out = reader_->model().normed()});
}

void LayerWalk::RunAttention(const Tensor& stream, Rows rows, int layer, const LayerWeights& w) {
  Read(stream, rows, w.input_norm);
  Multiply(Attended(layer, w), w.o_proj, w.o_bias);
  Add(stream, rows, w.attention_output_norm);
}

void LayerWalk::RunFeedForward(const Tensor& stream, Rows rows, int layer, const LayerWeights& w) {
  Read(stream, rows, w.ffn_norm);
  if (config().is_sparse(layer)) {
    Experts(w);
  } else {
    Multiply(Activated(w), w.down_proj, w.down_bias);
  }
  Add(stream, rows, w.ffn_output_norm);
}

void LayerWalk::ReadFinal(const Tensor& stream, Rows rows) {
  Read(stream, rows, reader_->model().weights().final_norm);
}

}  // namespace mea::convert
