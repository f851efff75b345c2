#include "kernels/host_sample.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/check.h"
#include "kernels/draw.h"

namespace mea {
namespace {

int32_t ArgMax(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace

double LogSumExp(std::span<const float> logits) {
  const double max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - max);
  return max + std::log(sum);
}

SampledToken HostSampler::Sample(std::span<const float> logits, const SampleRow& row,
                                 std::span<const LogitEdit> edits) {
  SampledToken token;
  const auto is_finite = [](float logit) { return std::isfinite(logit); };
  token.is_finite = std::all_of(logits.begin(), logits.end(), is_finite);
  if (!token.is_finite) return token;

  Edit(logits, row, edits);
  token.token_id = row.temperature == 0 ? ArgMax(edited_) : Draw(row);
  if (row.num_top >= 0) ReportLogprobs(logits, row.num_top, token);
  return token;
}

void HostSampler::Expect(int64_t vocab_size) {
  edited_.reserve(vocab_size);
  candidates_.reserve(vocab_size);
  ids_.reserve(vocab_size);
}

void HostSampler::ReportLogprobs(std::span<const float> logits, int num_top, SampledToken& token) {
  const double log_sum = LogSumExp(logits);
  token.logprob = static_cast<float>(logits[token.token_id] - log_sum);
  ids_.resize(logits.size());
  std::iota(ids_.begin(), ids_.end(), 0);
  const int n = std::min<int>(num_top, static_cast<int>(ids_.size()));
  std::partial_sort(ids_.begin(), ids_.begin() + n, ids_.end(), [&](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  });
  for (int i = 0; i < n; ++i) {
    token.top_ids[i] = ids_[i];
    token.top_logprobs[i] = static_cast<float>(logits[ids_[i]] - log_sum);
  }
}

void HostSampler::Edit(std::span<const float> logits, const SampleRow& row,
                       std::span<const LogitEdit> edits) {
  if (row.restricted) {
    edited_.assign(logits.size(), kImpossible);
  } else {
    edited_.assign(logits.begin(), logits.end());
  }
  for (const LogitEdit& edit : edits.subspan(row.edits_begin, row.edits_end - row.edits_begin)) {
    edited_[edit.token_id] = WithPenalty(WithBiasAndRepetition(logits[edit.token_id], edit), edit);
  }
}

int32_t HostSampler::Draw(const SampleRow& row) {
  const int32_t best = ArgMax(edited_);
  MEA_CHECK(edited_[best] != kImpossible);
  const float scale = DistanceScale(row.temperature);
  candidates_.clear();
  for (size_t id = 0; id < edited_.size(); ++id) {
    const uint32_t distance = Distance(edited_[best], edited_[id], scale);
    if (distance != kNoCandidate) candidates_.push_back({distance, static_cast<int32_t>(id)});
  }
  if (row.top_k > 0) KeepBest(row.top_k);
  if (row.top_p < 1.0f) KeepTopP(row.top_p);
  if (row.min_p > 0.0f) {
    const uint64_t least = MinPWeight(row.min_p);
    std::erase_if(candidates_, [=](const Candidate& c) { return Weight(c.distance) < least; });
  }
  std::sort(candidates_.begin(), candidates_.end(),
            [](const Candidate& a, const Candidate& b) { return a.token_id < b.token_id; });

  uint64_t point = DrawnPoint(row, TotalWeight());
  for (const Candidate& c : candidates_) {
    const uint64_t weight = Weight(c.distance);
    if (point < weight) return c.token_id;
    point -= weight;
  }
  return best;  // a bias beyond all numbers: there were no candidates
}

uint64_t HostSampler::TotalWeight() const {
  uint64_t total = 0;
  for (const Candidate& c : candidates_) total += Weight(c.distance);
  return total;
}

void HostSampler::KeepBest(size_t n) {
  n = std::min(n, candidates_.size());
  std::partial_sort(candidates_.begin(), candidates_.begin() + n, candidates_.end());
  candidates_.resize(n);
}

void HostSampler::KeepTopP(float top_p) {
  const uint64_t wanted = TopPWeight(top_p, TotalWeight());
  // The nucleus is mostly small: sort only as many as it turns out to need.
  for (size_t sorted = 64;; sorted *= 4) {
    const size_t n = std::min(sorted, candidates_.size());
    std::partial_sort(candidates_.begin(), candidates_.begin() + n, candidates_.end());
    uint64_t weight = 0;
    for (size_t i = 0; i < n; ++i) {
      weight += Weight(candidates_[i].distance);
      if (weight >= wanted) return candidates_.resize(i + 1);
    }
    if (n == candidates_.size()) return;
  }
}

}  // namespace mea
