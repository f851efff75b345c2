#include "engine/eval/divergence.h"

#include <algorithm>
#include <cmath>

#include "engine/weights/in_parallel.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

// log sum exp, and where the maximum is.
struct Partition {
  double log_z = 0;
  size_t top = 0;
};

Partition PartitionOf(std::span<const float> logits) {
  Partition out;
  out.top = std::max_element(logits.begin(), logits.end()) - logits.begin();
  const float most = logits[out.top];
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - most);
  out.log_z = most + std::log(sum);
  return out;
}

}  // namespace

TokenDivergence Diverge(std::span<const float> plain, std::span<const float> other,
                        int32_t target) {
  const Partition p = PartitionOf(plain);
  const Partition q = PartitionOf(other);
  double gap = 0;  // of the logits, where the plain model expects them
  for (size_t i = 0; i < plain.size(); ++i) {
    gap += std::exp(plain[i] - static_cast<float>(p.log_z)) * (double{plain[i]} - other[i]);
  }
  return {.plain_loss = p.log_z - plain[target],
          .loss = q.log_z - other[target],
          .kl = std::max(0.0, gap - p.log_z + q.log_z),
          .same_top1 = p.top == q.top};
}

absl::StatusOr<std::vector<Divergence>> Compare(std::span<const std::unique_ptr<Reader>> readers,
                                                std::span<const Document> documents,
                                                int num_threads, const TokensRead& progress) {
  std::vector<Divergence> sums(readers.size(), {.top1 = 0});
  int64_t num_predicted = 0;
  int64_t read = 0;
  std::vector<TokenDivergence> tokens(Reader::kMaxLogitRows);
  for (const TextBatch batch : BatchesOf(documents)) {
    for (const auto& reader : readers) reader->Forward(batch);
    const PredictingRows predicting = PredictingRowsOf(batch);
    const auto num_rows = std::ssize(predicting.rows);
    for (int64_t first = 0; first < num_rows; first += Reader::kMaxLogitRows) {
      const int64_t count = std::min<int64_t>(Reader::kMaxLogitRows, num_rows - first);
      const auto rows = std::span(predicting.rows).subspan(first, count);
      const TensorView expected = readers[0]->Logits(rows);
      const auto row_of = [](const TensorView& logits, int64_t i) {
        return std::span<const float>(logits.row<float>(i), logits.shape[1]);
      };
      for (size_t model = 0; model < sums.size(); ++model) {
        const TensorView logits = model == 0 ? expected : readers[model]->Logits(rows);
        InParallel(count, /*least=*/4, num_threads, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) {
            tokens[i] =
                Diverge(row_of(expected, i), row_of(logits, i), predicting.targets[first + i]);
          }
        });
        for (int64_t i = 0; i < count; ++i) {
          sums[model].loss += tokens[i].loss;
          sums[model].kl += tokens[i].kl;
          sums[model].top1 += tokens[i].same_top1 ? 1 : 0;
        }
      }
    }
    num_predicted += num_rows;
    read += NumTokens(batch);
    if (!progress) continue;
    MEA_RETURN_IF_ERROR(progress(read, NumTokens(documents)));
  }
  if (num_predicted == 0) return absl::InvalidArgumentError("the text has no token to predict");
  for (Divergence& sum : sums) {
    sum.loss /= static_cast<double>(num_predicted);
    sum.kl /= static_cast<double>(num_predicted);
    sum.top1 /= static_cast<double>(num_predicted);
  }
  return sums;
}

}  // namespace mea
