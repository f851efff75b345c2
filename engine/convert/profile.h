#pragma once

#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/convert/healing.h"
#include "engine/convert/layer_copy.h"
#include "engine/convert/layer_walk.h"
#include "engine/eval/divergence.h"

namespace mea::convert {

struct ProfileTexts {
  std::span<const Document> measure;
  std::span<const Document> heal;  // to refit what is measured on; empty: nothing is refitted
};

// Measures what composing a single layer does to the plain model. Keeps the text's hidden
// states in front of that layer, so a measurement computes only the layers from there on. One
// thread drives it.
class Profiler {
 public:
  // Logits are compared at so many tokens of the text, spread evenly, as fit into `logit_bytes`
  // and no more than kMostCompared.
  static absl::StatusOr<std::unique_ptr<Profiler>> Create(const Checkpoint& plain,
                                                          const ProfileTexts& texts,
                                                          int num_threads, int64_t logit_bytes);
  // The next layer with these heads, o_proj refitted. `Divergence::loss` is the increase.
  absl::StatusOr<Divergence> Measure(const LayerComposition& composition);
  absl::Status PassLayer();
  int layer() const { return layer_; }

 private:
  static constexpr int64_t kMostCompared = 1024;

  Profiler(const Checkpoint& plain, int num_threads) : plain_(plain), num_threads_(num_threads) {}
  const ModelConfig& config() const { return walk_->config(); }
  void ChooseRows(int64_t logit_bytes);
  // Runs `stream` through the layers from `first` on, and calls look(i, logits of row i of those
  // compared).
  template <typename Look>
  void Finish(const Tensor& stream, int first, const Look& look);

  void RunLayer(const Tensor& stream, const LayerWeights& w);  // layer_
  Divergence Score(const Tensor& stream, int first_layer);

  const Checkpoint& plain_;
  const int num_threads_;
  std::unique_ptr<LayerWalk> walk_;       // of texts.measure
  std::unique_ptr<Healer> healer_;        // in front of layer_, too; or null
  std::vector<PredictingRows> compared_;  // by batch
  Tensor logits_;                         // [compared, vocab] of the plain model
  Tensor front_;                          // [num_tokens, hidden] in front of layer_
  Tensor trial_;
  int layer_ = 0;
};

}  // namespace mea::convert
