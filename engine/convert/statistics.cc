#include "engine/convert/statistics.h"

#include <cmath>
#include <map>
#include <utility>

#include "engine/convert/eigen.h"
#include "kernels/status_macros.h"

namespace mea::convert {

absl::StatusOr<LayerStatistics> CollectStatistics(Reader& reader, const Checkpoint& checkpoint,
                                                  std::span<const Document> documents,
                                                  std::span<const int> layers,
                                                  const TokensRead& progress) {
  std::map<int, StatisticsCollector> collectors;
  for (const int layer : layers) {
    MEA_ASSIGN_OR_RETURN(std::vector<double> q_norm, ReadQueryNorm(checkpoint, layer));
    collectors.try_emplace(layer, checkpoint.config, std::move(q_norm));
  }
  reader.model().set_on_projections([&](int layer, const QkvViews& qkv) {
    if (const auto it = collectors.find(layer); it != collectors.end()) it->second.Add(qkv);
  });
  const absl::StatusOr<double> loss = reader.Loss(documents, progress);
  reader.model().set_on_projections({});
  MEA_RETURN_IF_ERROR(loss.status());
  LayerStatistics statistics;
  for (auto& [layer, collector] : collectors) {
    statistics.emplace(layer, std::move(collector).Take());
  }
  return statistics;
}

StatisticsCollector::StatisticsCollector(const ModelConfig& config, std::vector<double> q_norm)
    : q_heads_(config.q_heads),
      kv_heads_(config.kv_heads),
      head_dim_(config.head_dim),
      eps_(config.rms_norm_eps),
      q_norm_(std::move(q_norm)),
      pairs_(config.kv_heads) {
  statistics_.keys.assign(head_dim_ / 2, ComplexMatrix(kv_heads_, kv_heads_));
  statistics_.values = Matrix(int64_t{kv_heads_} * head_dim_, int64_t{kv_heads_} * head_dim_);
  statistics_.queries = Matrix(kv_heads_, head_dim_ / 2);
}

void StatisticsCollector::Add(const QkvViews& qkv) {
  const int64_t num_tokens = qkv.k.shape[0];
  for (int64_t t = 0; t < num_tokens; ++t) {
    AddKeys(qkv.k.row<float>(t));
    AddQueries(qkv.q.row<float>(t));
  }
  AddValues(qkv.v);
  statistics_.num_tokens += num_tokens;
}

void StatisticsCollector::AddKeys(const float* k) {
  const int half = head_dim_ / 2;
  double scale = 1;
  if (!q_norm_.empty()) {
    double energy = 0;
    for (int i = 0; i < kv_heads_ * head_dim_; ++i) energy += double{k[i]} * k[i];
    scale = 1 / std::sqrt(energy / (kv_heads_ * head_dim_) + eps_);
  }
  for (int f = 0; f < half; ++f) {
    for (int j = 0; j < kv_heads_; ++j) {
      const float* head = k + int64_t{j} * head_dim_;
      pairs_[j] = scale * Complex(head[f], head[f + half]);
    }
    ComplexMatrix& gram = statistics_.keys[f];
    for (int j = 0; j < kv_heads_; ++j) {
      for (int i = 0; i <= j; ++i) {
        const Complex product = pairs_[j] * std::conj(pairs_[i]);
        gram(j, i) += product;
        if (i != j) gram(i, j) += std::conj(product);
      }
    }
  }
}

void StatisticsCollector::AddQueries(const float* q) {
  const int half = head_dim_ / 2;
  const int group = q_heads_ / kv_heads_;
  for (int i = 0; i < q_heads_; ++i) {
    const float* head = q + int64_t{i} * head_dim_;
    double scale = 1;
    if (!q_norm_.empty()) {
      double energy = 0;
      for (int e = 0; e < head_dim_; ++e) energy += double{head[e]} * head[e];
      scale = 1 / std::sqrt(energy / head_dim_ + eps_);
    }
    for (int f = 0; f < half; ++f) {
      const double first = scale * head[f] * (q_norm_.empty() ? 1 : q_norm_[f]);
      const double second = scale * head[f + half] * (q_norm_.empty() ? 1 : q_norm_[f + half]);
      statistics_.queries(i / group, f) += first * first + second * second;
    }
  }
}

void StatisticsCollector::AddValues(const TensorView& v) {
  using Rows = Eigen::Map<const RowMajor<float>, 0, Eigen::OuterStride<>>;
  const Rows rows(v.as<float>(), v.shape[0], v.shape[1], Eigen::OuterStride<>(v.stride[0]));
  AsEigen(statistics_.values).noalias() += (rows.transpose() * rows).cast<double>();
}

}  // namespace mea::convert
