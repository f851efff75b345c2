#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/convert/layer_copy.h"
#include "engine/convert/layer_walk.h"
#include "engine/convert/layer_weights.h"

namespace mea::convert {

// Refits the weights of a converted model, layer by layer, so that its hidden states follow the
// plain model's in spite of what composing heads has lost (README.md, "Healing"). Keeps a text's
// hidden states of both models in front of the next layer. One thread drives it.
class Healer {
 public:
  static absl::StatusOr<std::unique_ptr<Healer>> Create(const Checkpoint& plain,
                                                        std::span<const Document> documents,
                                                        int num_threads);
  // What a healer of so many tokens takes beside its Reader.
  static int64_t Bytes(const ModelConfig& config, int64_t num_tokens);

  // Moves on to the next layer. If it is known how this one was healed, both models only pass it.
  // All is empty while the models do not differ.
  absl::StatusOr<HealedWeights> HealNext(const LayerComposition& composition,
                                         const std::optional<HealedWeights>& known);
  // The next layer with these heads and o_proj refitted to them, without moving on. Only while the
  // models do not differ.
  absl::StatusOr<LayerCopy> TryNext(const LayerComposition& composition);
  // How far the converted model is from the plain one: mean of |s - t|^2 / |t|^2 over tokens.
  double Distance() const;

 private:
  // Attention, or a feed-forward network: what reads the residual and adds to it.
  struct Block {
    TensorView LayerWeights::*read_norm;
    TensorView LayerWeights::*output;  // its last projection
    TensorView LayerWeights::*output_bias;
    TensorView LayerWeights::*output_norm;
    double ridge = 0;
    std::function<TensorView(const LayerWeights&)> inner;  // what the last projection reads
  };

  Healer(const Checkpoint& plain, int num_threads)
      : checkpoint_(plain), num_threads_(num_threads) {}
  const ModelConfig& config() const { return walk_->config(); }

  // The matrices that predict the plain model's projections from what the converted one reads.
  std::vector<FloatMatrix> RefitInputs(std::span<const TensorView> projections, TensorView gain);
  // Runs the block of both models; refits `healed` unless it is known.
  absl::Status RunBlock(const Block& block, LayerCopy& converted, bool is_known,
                        FloatMatrix& healed);
  Block AttentionBlock() const;
  absl::StatusOr<Tensor> CopyOf(const Tensor& stream) const;
  absl::Status RunDense(LayerCopy& converted, bool is_known, HealedWeights& healed);
  TensorView Target(const Block& block, const LayerWeights& w, LayerWalk::Rows rows,
                    TensorView delta, std::vector<float>& inverse_sizes);

  const Checkpoint& checkpoint_;
  const int num_threads_;
  std::unique_ptr<LayerWalk> walk_;
  Tensor plain_;      // [num_tokens, hidden] t
  Tensor converted_;  // [num_tokens, hidden] s; absent while it is t
  Tensor inputs_;     // [num_tokens, widest] what the output projection of a block reads
  Tensor targets_;    // [a batch's tokens, widest]
  int layer_ = 0;
};

}  // namespace mea::convert
