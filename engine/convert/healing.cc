#include "engine/convert/healing.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "engine/convert/regression.h"
#include "engine/storage/convert_dtype.h"
#include "kernels/status_macros.h"

namespace mea::convert {
namespace {

// Shares of the mean square of a projection's input: how much is asked of the text to move a
// weight.
constexpr double kInputRidge = 0.03;
constexpr double kAttentionRidge = 0.03;
constexpr double kFeedForwardRidge = 0.1;

// Directions of the residual that a norm's gain all but closes cannot be healed through it.
constexpr float kOpenGain = 1e-2f;  // of the mean gain

Matrix Widened(std::span<const TensorView> views) {
  int64_t rows = 0;
  for (const TensorView& view : views) rows += view.shape[0];
  const int64_t cols = views[0].shape[1];
  Matrix matrix(rows, cols);
  std::vector<float> wide;
  double* to = matrix.values.data();
  for (const TensorView& view : views) {
    wide.resize(view.num_elements());
    ConvertDType(view.data, view.dtype, wide.data(), DType::kF32, std::ssize(wide));
    to = std::copy(wide.begin(), wide.end(), to);
  }
  return matrix;
}

FloatMatrix Narrowed(const Matrix& matrix, int64_t first_row, int64_t rows) {
  FloatMatrix narrow(rows, matrix.cols);
  std::copy_n(matrix.row(first_row), rows * matrix.cols, narrow.values.begin());
  return narrow;
}

int64_t Widest(const ModelConfig& config) {
  return std::max<int64_t>(config.ffn_size, int64_t{config.q_heads} * config.head_dim);
}
// Of a batch's targets: all projections that read one norm's output.
int64_t WidestTarget(const ModelConfig& config) {
  const int64_t qkv = int64_t{config.q_heads + 2 * config.kv_heads} * config.head_dim;
  return std::max({int64_t{2} * config.ffn_size, qkv, int64_t{config.hidden_size}});
}

double Size(const float* row, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += double{row[i]} * row[i];
  return std::sqrt(sum / static_cast<double>(count));
}

}  // namespace

int64_t Healer::Bytes(const ModelConfig& config, int64_t num_tokens) {
  const int64_t hidden = config.hidden_size;
  const int64_t rows = Reader::kBatchTokens;
  const int64_t streams = num_tokens * (2 * hidden + Widest(config)) + rows * WidestTarget(config);
  const int64_t sums = std::max(Regression::Bytes(hidden, WidestTarget(config), rows),
                                Regression::Bytes(Widest(config), hidden, rows));
  return streams * static_cast<int64_t>(sizeof(float)) + sums;
}

absl::StatusOr<std::unique_ptr<Healer>> Healer::Create(const Checkpoint& plain,
                                                       std::span<const Document> documents,
                                                       int num_threads) {
  std::unique_ptr<Healer> healer(new Healer(plain, num_threads));
  MEA_ASSIGN_OR_RETURN(healer->walk_, LayerWalk::Create(plain, documents, num_threads));
  const ModelConfig& config = plain.config;
  MEA_ASSIGN_OR_RETURN(healer->plain_, healer->walk_->NewStream(config.hidden_size));
  MEA_ASSIGN_OR_RETURN(healer->inputs_, healer->walk_->NewStream(Widest(config)));
  const int64_t rows = Reader::kBatchTokens;
  MEA_ASSIGN_OR_RETURN(healer->targets_,
                       Tensor::AllocateHost(std::array{rows, WidestTarget(config)}, DType::kF32));
  healer->walk_->Embed(healer->plain_);
  return healer;
}

std::vector<FloatMatrix> Healer::RefitInputs(std::span<const TensorView> projections,
                                             TensorView gain) {
  const Matrix prior = Widened(projections);
  Regression sums(&walk_->backend(), prior.cols, prior.rows);
  const std::vector<float> alike(Reader::kBatchTokens, 1.0f);
  walk_->ForEachBatch([&](LayerWalk::Rows rows) {
    const TensorView targets = targets_.view().Rows(0, rows.count).Columns(0, prior.rows);
    std::vector<Projection> products;
    int64_t column = 0;
    for (const TensorView& w : projections) {
      products.push_back({.w = w, .out = targets.Columns(column, w.shape[0])});
      column += w.shape[0];
    }
    walk_->backend().MatMul({.x = walk_->Read(plain_, rows, gain), .projections = products});
    sums.Add(walk_->Read(converted_, rows, gain), targets, std::span(alike).first(rows.count));
  });
  const Matrix solution = std::move(sums).Solve(prior, kInputRidge, num_threads_);
  std::vector<FloatMatrix> refitted;
  int64_t row = 0;
  for (const TensorView& w : projections) {
    refitted.push_back(Narrowed(solution, row, w.shape[0]));
    row += w.shape[0];
  }
  return refitted;
}

// What the output projection should yield so that s goes where t goes: what it yields in the plain
// model, and what s lacks before the block. A norm behind it multiplies by gain / size, so that
// much more is needed; the size is the plain model's.
TensorView Healer::Target(const Block& block, const LayerWeights& w, LayerWalk::Rows rows,
                          TensorView delta, std::vector<float>& inverse_sizes) {
  const int64_t hidden = config().hidden_size;
  const TensorView target = targets_.view().Rows(0, rows.count).Columns(0, hidden);
  const auto scale = static_cast<float>(1 / config().residual_scale);
  const float* gain = (w.*block.output_norm).empty() ? nullptr : (w.*block.output_norm).as<float>();
  const float* bias = (w.*block.output_bias).empty() ? nullptr : (w.*block.output_bias).as<float>();
  const float open = gain == nullptr ? 0 : kOpenGain * static_cast<float>(Size(gain, hidden));
  inverse_sizes.resize(rows.count);
  for (int64_t i = 0; i < rows.count; ++i) {
    const float* d = delta.row<float>(i);
    const float* t = plain_.view().row<float>(rows.first + i);
    const float* s = converted_.view().row<float>(rows.first + i);
    float* y = target.row<float>(i);
    const float size = gain == nullptr ? 1 : static_cast<float>(Size(d, hidden));
    for (int64_t k = 0; k < hidden; ++k) {
      const float lacks = scale * (t[k] - s[k]);
      if (gain == nullptr) {
        y[k] = d[k] + lacks;
      } else {
        y[k] = d[k] + (std::abs(gain[k]) > open ? lacks * size / gain[k] : 0);
      }
      if (bias != nullptr) y[k] -= bias[k];
    }
    // Errors count as the next norm sees them: relative to the size of the residual.
    inverse_sizes[i] = static_cast<float>(1 / std::max(Size(t, hidden) * size, 1e-20));
  }
  return target;
}

absl::Status Healer::RunBlock(const Block& block, LayerCopy& converted, bool is_known,
                              FloatMatrix& healed) {
  const LayerWeights& plain = walk_->layer(layer_);
  const TensorView w = plain.*block.output;
  const TensorView bias = plain.*block.output_bias;
  std::optional<Regression> sums;
  if (!is_known) sums.emplace(&walk_->backend(), w.shape[1], w.shape[0]);
  std::vector<float> inverse_sizes;
  walk_->ForEachBatch([&](LayerWalk::Rows rows) {
    walk_->Read(plain_, rows, plain.*block.read_norm);
    const TensorView delta = walk_->Multiply(block.inner(plain), w, bias);
    TensorView target;
    if (!is_known) target = Target(block, plain, rows, delta, inverse_sizes);
    walk_->Add(plain_, rows, plain.*block.output_norm);

    walk_->Read(converted_, rows, plain.*block.read_norm);
    const TensorView x = block.inner(converted.weights());
    const TensorView kept = rows.Of(inputs_).Columns(0, w.shape[1]);
    for (int64_t i = 0; i < rows.count; ++i) {
      std::copy_n(x.row<float>(i), w.shape[1], kept.row<float>(i));
    }
    if (!is_known) sums->Add(kept, target, inverse_sizes);
  });
  if (!is_known) {
    const Matrix solution =
        std::move(*sums).Solve(Widened(std::span(&w, 1)), block.ridge, num_threads_);
    healed = Narrowed(solution, 0, solution.rows);
  }
  MEA_RETURN_IF_ERROR(converted.Replace(block.output, healed));
  walk_->ForEachBatch([&](LayerWalk::Rows rows) {
    walk_->Multiply(rows.Of(inputs_).Columns(0, w.shape[1]), converted.weights().*block.output,
                    bias);
    walk_->Add(converted_, rows, plain.*block.output_norm);
  });
  return absl::OkStatus();
}

absl::Status Healer::RunDense(LayerCopy& converted, bool is_known, HealedWeights& healed) {
  const LayerWeights& plain = walk_->layer(layer_);
  if (!is_known) {
    const TensorView projections[] = {plain.gate_proj, plain.up_proj};
    std::vector<FloatMatrix> refitted = RefitInputs(projections, plain.ffn_norm);
    healed.gate = std::move(refitted[0]);
    healed.up = std::move(refitted[1]);
  }
  MEA_RETURN_IF_ERROR(converted.Replace(&LayerWeights::gate_proj, healed.gate));
  MEA_RETURN_IF_ERROR(converted.Replace(&LayerWeights::up_proj, healed.up));
  const Block block{.read_norm = &LayerWeights::ffn_norm,
                    .output = &LayerWeights::down_proj,
                    .output_bias = &LayerWeights::down_bias,
                    .output_norm = &LayerWeights::ffn_output_norm,
                    .ridge = kFeedForwardRidge,
                    .inner = [&](const LayerWeights& w) { return walk_->Activated(w); }};
  return RunBlock(block, converted, is_known, healed.down);
}

Healer::Block Healer::AttentionBlock() const {
  return {.read_norm = &LayerWeights::input_norm,
          .output = &LayerWeights::o_proj,
          .output_bias = &LayerWeights::o_bias,
          .output_norm = &LayerWeights::attention_output_norm,
          .ridge = kAttentionRidge,
          .inner = [this](const LayerWeights& w) { return walk_->Attended(layer_, w); }};
}

absl::StatusOr<Tensor> Healer::CopyOf(const Tensor& stream) const {
  MEA_ASSIGN_OR_RETURN(Tensor copy, walk_->NewStream(config().hidden_size));
  std::ranges::copy(stream.view().values<float>(), copy.view().as<float>());
  return copy;
}

absl::StatusOr<LayerCopy> Healer::TryNext(const LayerComposition& composition) {
  MEA_CHECK(converted_.view().empty());
  MEA_ASSIGN_OR_RETURN(Tensor front, CopyOf(plain_));
  MEA_ASSIGN_OR_RETURN(converted_, CopyOf(plain_));
  LayerCopy copy(walk_->layer(layer_));
  MEA_RETURN_IF_ERROR(copy.WriteOutHeads(checkpoint_, layer_, composition, {}));
  FloatMatrix output;
  MEA_RETURN_IF_ERROR(RunBlock(AttentionBlock(), copy, /*is_known=*/false, output));
  plain_ = std::move(front);
  converted_ = Tensor();
  return copy;
}

absl::StatusOr<HealedWeights> Healer::HealNext(const LayerComposition& composition,
                                               const std::optional<HealedWeights>& known) {
  const LayerWeights& plain = walk_->layer(layer_);
  HealedWeights healed = known.value_or(HealedWeights());
  const bool differs = !converted_.view().empty();
  if (!differs && composition.empty()) {
    walk_->ForEachBatch([&](LayerWalk::Rows rows) {
      walk_->RunAttention(plain_, rows, layer_, plain);
      walk_->RunFeedForward(plain_, rows, layer_, plain);
    });
    ++layer_;
    return healed;
  }
  LayerCopy converted(plain);
  if (!differs) {
    MEA_ASSIGN_OR_RETURN(converted_, CopyOf(plain_));
  } else if (!known) {
    const TensorView projections[] = {plain.q_proj, plain.k_proj, plain.v_proj};
    std::vector<FloatMatrix> refitted = RefitInputs(projections, plain.input_norm);
    healed.q = std::move(refitted[0]);
    healed.k = std::move(refitted[1]);
    healed.v = std::move(refitted[2]);
  }
  MEA_RETURN_IF_ERROR(converted.WriteOutHeads(checkpoint_, layer_, composition, healed));
  MEA_RETURN_IF_ERROR(RunBlock(AttentionBlock(), converted, known.has_value(), healed.o));
  if (config().is_sparse(layer_)) {
    walk_->ForEachBatch([&](LayerWalk::Rows rows) {
      walk_->RunFeedForward(plain_, rows, layer_, plain);
      walk_->RunFeedForward(converted_, rows, layer_, plain);
    });
  } else {
    MEA_RETURN_IF_ERROR(RunDense(converted, known.has_value(), healed));
  }
  ++layer_;
  return healed;
}

double Healer::Distance() const {
  if (converted_.view().empty()) return 0;
  double sum = 0;
  const int64_t hidden = config().hidden_size;
  for (int64_t i = 0; i < walk_->num_tokens(); ++i) {
    const float* t = plain_.view().row<float>(i);
    const float* s = converted_.view().row<float>(i);
    double gap = 0;
    double size = 0;
    for (int64_t k = 0; k < hidden; ++k) {
      gap += (double{s[k]} - t[k]) * (double{s[k]} - t[k]);
      size += double{t[k]} * t[k];
    }
    if (size > 0) sum += gap / size;
  }
  return sum / static_cast<double>(walk_->num_tokens());
}

}  // namespace mea::convert
