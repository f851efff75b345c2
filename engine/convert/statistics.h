#pragma once

#include <span>
#include <utility>
#include <vector>

#include "engine/checkpoint/checkpoint.h"
#include "engine/convert/layer_weights.h"
#include "engine/convert/problems.h"
#include "engine/eval/reader.h"

namespace mea::convert {

// Statistics of these layers over a text that `reader`, of the checkpoint, reads.
absl::StatusOr<LayerStatistics> CollectStatistics(Reader& reader, const Checkpoint& checkpoint,
                                                  std::span<const Document> documents,
                                                  std::span<const int> layers,
                                                  const TokensRead& progress = {});

// Sums up the outputs of one layer's projections while a text is read. With QK-norm each token's
// keys are first divided by their mean size over the heads, since the norm divides them too, and
// its queries are those after norm and gain.
class StatisticsCollector {
 public:
  StatisticsCollector(const ModelConfig& config, std::vector<double> q_norm);

  // Rows of f32 in host memory.
  void Add(const QkvViews& qkv);
  HeadStatistics Take() && { return std::move(statistics_); }

 private:
  void AddKeys(const float* k);
  void AddQueries(const float* q);
  void AddValues(const TensorView& v);

  int q_heads_;
  int kv_heads_;
  int head_dim_;
  double eps_;
  std::vector<double> q_norm_;  // [d], or empty
  HeadStatistics statistics_;
  std::vector<Complex> pairs_;  // [h] scratch
};

}  // namespace mea::convert
