#pragma once

#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/eval/reader.h"

namespace mea::convert {

// A text's hidden states on their way through a model, a block at a time: [num_tokens, hidden] of
// the residual, which the caller owns. One thread drives it.
class LayerWalk {
 public:
  static absl::StatusOr<std::unique_ptr<LayerWalk>> Create(const Checkpoint& checkpoint,
                                                           std::span<const Document> documents,
                                                           int num_threads);

  const ModelConfig& config() const { return reader_->model().config(); }
  const LayerWeights& layer(int index) const { return reader_->model().weights().layers[index]; }
  Backend& backend() const { return reader_->model().backend(); }
  int64_t num_tokens() const { return num_tokens_; }
  std::span<const TextBatch> batches() const { return batches_; }

  absl::StatusOr<Tensor> NewStream(int64_t columns) const;
  // In front of the first layer.
  void Embed(const Tensor& stream);

  // Rows of the streams: one batch.
  struct Rows {
    int64_t first = 0;
    int64_t count = 0;
    TensorView Of(const Tensor& stream) const { return stream.view().Rows(first, count); }
  };
  // Calls body(rows) for every batch, which the following functions are then for.
  template <typename Body>
  void ForEachBatch(const Body& body) {
    int64_t first = 0;
    for (const TextBatch batch : batches_) {
      reader_->Begin(batch);
      const int64_t count = NumTokens(batch);
      body(Rows{first, count});
      first += count;
    }
  }
  // What a block reads: the normed residual.
  TensorView Read(const Tensor& stream, Rows rows, TensorView gain);
  // From there to what o_proj, or down_proj of a dense layer, reads.
  TensorView Attended(int layer, const LayerWeights& w) {
    return reader_->model().Attended(layer, w, reader_->kv());
  }
  TensorView Activated(const LayerWeights& w) { return reader_->model().Activated(w); }
  // What the block adds to the residual.
  TensorView Multiply(TensorView x, TensorView w, TensorView bias);
  TensorView Experts(const LayerWeights& w);
  void Add(const Tensor& stream, Rows rows, TensorView output_norm);

  // All of a layer.
  void RunAttention(const Tensor& stream, Rows rows, int layer, const LayerWeights& w);
  void RunFeedForward(const Tensor& stream, Rows rows, int layer, const LayerWeights& w);
  // Of rows that have passed all layers: reads them for Logits.
  void ReadFinal(const Tensor& stream, Rows rows);
  TensorView Logits(std::span<const int32_t> rows) { return reader_->model().Logits(rows); }

 private:
  explicit LayerWalk(std::span<const Document> documents)
      : batches_(BatchesOf(documents)), num_tokens_(NumTokens(documents)) {}

  const std::vector<TextBatch> batches_;
  const int64_t num_tokens_;
  std::unique_ptr<Reader> reader_;
};

}  // namespace mea::convert
