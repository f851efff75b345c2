#include "kernels/host_sample.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numeric>

#include "kernels/check.h"
#include "kernels/draw.h"

namespace mea {
namespace {

constexpr size_t kLanes = 16;  // sums side by side, of which a compiler makes vectors

// As std::isfinite of all.
bool AreFinite(std::span<const float> logits) {
  std::array<float, kLanes> zeros{};
  size_t i = 0;
  for (; i + kLanes <= logits.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      zeros[lane] += logits[i + lane] - logits[i + lane];  // NaN unless it is finite
    }
  }
  for (; i < logits.size(); ++i) zeros[0] += logits[i] - logits[i];
  return std::all_of(zeros.begin(), zeros.end(), [](float zero) { return zero == 0; });
}

// As std::max_element, which waits for each comparison before the next.
int32_t ArgMax(std::span<const float> logits) {
  std::array<float, kLanes> lanes;
  lanes.fill(logits[0]);
  size_t i = 0;
  for (; i + kLanes <= logits.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] = logits[i + lane] > lanes[lane] ? logits[i + lane] : lanes[lane];
    }
  }
  float max = *std::max_element(lanes.begin(), lanes.end());
  for (; i < logits.size(); ++i) max = std::max(max, logits[i]);
  return static_cast<int32_t>(std::find(logits.begin(), logits.end(), max) - logits.begin());
}

// A token that the mask excludes becomes impossible.
void KeepMasked(std::span<const uint32_t> mask, std::span<float> edited) {
  for (size_t i = 0; i < edited.size(); ++i) {
    const bool kept = (mask[i / kMaskBits] >> (i % kMaskBits) & 1) != 0;
    edited[i] = kept ? edited[i] : kImpossible;
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
                                 std::span<const LogitEdit> edits,
                                 std::span<const uint32_t> masks) {
  SampledToken token;
  token.is_finite = AreFinite(logits);
  if (!token.is_finite) return token;

  const std::span<const float> edited = Edit(logits, row, edits, masks);
  token.token_id = row.temperature == 0 ? ArgMax(edited) : Draw(edited, row);
  if (row.num_top >= 0) ReportLogprobs(logits, row.num_top, token);
  return token;
}

void HostSampler::Expect(int64_t vocab_size) {
  edited_.reserve(vocab_size);
  candidates_.reserve(vocab_size);
  ranked_.reserve(vocab_size);
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

std::span<const float> HostSampler::Edit(std::span<const float> logits, const SampleRow& row,
                                         std::span<const LogitEdit> edits,
                                         std::span<const uint32_t> masks) {
  if (row.restricted) {
    edited_.assign(logits.size(), kImpossible);
  } else if (row.edits_begin == row.edits_end && row.mask < 0) {
    return logits;
  } else {
    edited_.assign(logits.begin(), logits.end());
  }
  for (const LogitEdit& edit : edits.subspan(row.edits_begin, row.edits_end - row.edits_begin)) {
    edited_[edit.token_id] = WithPenalty(WithBiasAndRepetition(logits[edit.token_id], edit), edit);
  }
  if (row.mask >= 0) {
    const int64_t words = MaskWords(std::ssize(logits));
    KeepMasked(masks.subspan(row.mask * words, words), edited_);
  }
  return edited_;
}

int32_t HostSampler::Draw(std::span<const float> edited, const SampleRow& row) {
  const int32_t best = ArgMax(edited);
  MEA_CHECK(edited[best] != kImpossible);
  const float scale = DistanceScale(row.temperature);
  candidates_.clear();
  for (size_t id = 0; id < edited.size(); ++id) {
    const uint32_t distance = Distance(edited[best], edited[id], scale);
    if (distance == kNoCandidate) continue;
    candidates_.push_back({{distance, static_cast<int32_t>(id)}, Weight(distance)});
  }
  if (row.top_k > 0) KeepBest(row.top_k);
  if (row.top_p < 1.0f) KeepTopP(row.top_p);
  if (row.min_p > 0.0f) {
    const uint64_t least = MinPWeight(row.min_p);
    std::erase_if(candidates_, [=](const Candidate& c) { return c.weight < least; });
  }

  uint64_t point = DrawnPoint(row, TotalWeight());
  for (const Candidate& c : candidates_) {
    if (point < c.weight) return c.rank.token_id;
    point -= c.weight;
  }
  return best;  // a bias beyond all numbers: there were no candidates
}

uint64_t HostSampler::TotalWeight() const {
  uint64_t total = 0;
  for (const Candidate& c : candidates_) total += c.weight;
  return total;
}

void HostSampler::KeepUpTo(Rank last) {
  std::erase_if(candidates_, [last](const Candidate& c) { return c.rank > last; });
}

void HostSampler::KeepBest(size_t n) {
  if (n >= candidates_.size()) return;
  ranked_.clear();
  for (const Candidate& c : candidates_) ranked_.push_back(c.rank);
  std::nth_element(ranked_.begin(), ranked_.begin() + (n - 1), ranked_.end());
  KeepUpTo(ranked_[n - 1]);
}

// Weights are summed by classes of distance; only the class in which the sum reaches the limit is
// sorted.
void HostSampler::KeepTopP(float top_p) {
  constexpr int kClassBits = 10;
  const auto class_of = [](const Candidate& c) { return c.rank.distance >> (32 - kClassBits); };
  std::array<uint64_t, 1 << kClassBits> weights{};
  for (const Candidate& c : candidates_) weights[class_of(c)] += c.weight;
  const uint64_t wanted =
      TopPWeight(top_p, std::accumulate(weights.begin(), weights.end(), uint64_t{0}));
  uint64_t weight = 0;
  uint32_t last = 0;
  while (last + 1 < weights.size() && weight + weights[last] < wanted) weight += weights[last++];

  ranked_.clear();
  for (const Candidate& c : candidates_) {
    if (class_of(c) == last) ranked_.push_back(c.rank);
  }
  std::sort(ranked_.begin(), ranked_.end());
  for (const Rank& rank : ranked_) {
    weight += Weight(rank.distance);
    if (weight >= wanted) return KeepUpTo(rank);
  }
}

}  // namespace mea
