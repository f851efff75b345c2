#include "kernels/host_sample.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/check.h"
#include "kernels/uniform.h"

namespace mea {
namespace {

constexpr float kImpossible = -std::numeric_limits<float>::infinity();

float Apply(const LogitEdit& edit, float logit) {
  if (edit.penalty == LogitEdit::kBanned) return kImpossible;
  const float biased = logit + edit.bias;
  const float repeated = biased > 0 ? biased / edit.repetition : biased * edit.repetition;
  return repeated - edit.penalty;
}

int32_t ArgMax(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

void ReportLogprobs(std::span<const float> logits, int num_top, SampledToken& token) {
  const double log_sum = LogSumExp(logits);
  token.logprob = static_cast<float>(logits[token.token_id] - log_sum);
  std::vector<int32_t> ids(logits.size());
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
  const int n = std::min<int>(num_top, static_cast<int>(ids.size()));
  std::partial_sort(ids.begin(), ids.begin() + n, ids.end(), [&](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  });
  for (int i = 0; i < n; ++i) {
    token.top_ids[i] = ids[i];
    token.top_logprobs[i] = static_cast<float>(logits[ids[i]] - log_sum);
  }
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

void HostSampler::Edit(std::span<const float> logits, const SampleRow& row,
                       std::span<const LogitEdit> edits) {
  if (row.restricted) {
    edited_.assign(logits.size(), kImpossible);
  } else {
    edited_.assign(logits.begin(), logits.end());
  }
  for (const LogitEdit& edit : edits.subspan(row.edits_begin, row.edits_end - row.edits_begin)) {
    edited_[edit.token_id] = Apply(edit, logits[edit.token_id]);
  }
}

int32_t HostSampler::Draw(const SampleRow& row) {
  // Relative to the best one, so that no temperature, however low, overflows.
  const float max = *std::max_element(edited_.begin(), edited_.end());
  MEA_CHECK(max != kImpossible);
  candidates_.clear();
  for (size_t id = 0; id < edited_.size(); ++id) {
    if (edited_[id] == kImpossible) continue;
    candidates_.push_back({(edited_[id] - max) / row.temperature, static_cast<int32_t>(id)});
  }
  if (row.top_k > 0) KeepBest(row.top_k);
  if (row.top_p < 1.0f) KeepTopP(row.top_p);
  if (row.min_p > 0.0f) KeepMinP(row.min_p);
  std::sort(candidates_.begin(), candidates_.end(),
            [](const Candidate& a, const Candidate& b) { return a.token_id < b.token_id; });

  double sum = 0;
  for (const Candidate& c : candidates_) sum += std::exp(double{c.logit});
  double left = UniformAt(row.seed, row.counter) * sum;
  int32_t last_possible = candidates_.front().token_id;
  for (const Candidate& c : candidates_) {
    const double weight = std::exp(double{c.logit});
    if (weight > 0) last_possible = c.token_id;
    left -= weight;
    if (left < 0) return c.token_id;
  }
  return last_possible;  // the sum was rounded: the remainder belongs to the last token
}

void HostSampler::KeepBest(size_t n) {
  n = std::min(n, candidates_.size());
  std::partial_sort(candidates_.begin(), candidates_.begin() + n, candidates_.end(), Better);
  candidates_.resize(n);
}

void HostSampler::KeepTopP(double top_p) {
  double total = 0;
  for (const Candidate& c : candidates_) total += std::exp(double{c.logit});
  // The nucleus is mostly small: sort only as many as it turns out to need.
  for (size_t sorted = 64;; sorted *= 4) {
    const size_t n = std::min(sorted, candidates_.size());
    std::partial_sort(candidates_.begin(), candidates_.begin() + n, candidates_.end(), Better);
    double mass = 0;
    for (size_t i = 0; i < n; ++i) {
      mass += std::exp(double{candidates_[i].logit});
      if (mass >= top_p * total || i + 1 == candidates_.size()) {
        candidates_.resize(i + 1);
        return;
      }
    }
  }
}

void HostSampler::KeepMinP(double min_p) {
  const double threshold = std::log(min_p);
  std::erase_if(candidates_, [&](const Candidate& c) { return c.logit < threshold; });
}

}  // namespace mea
