#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "kernels/check.h"

namespace mea {
namespace {

constexpr float kBanned = -std::numeric_limits<float>::infinity();

// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection that spreads every input bit.
uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

int32_t ArgMax(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

std::vector<TokenLogprob> TopLogprobs(std::span<const float> logits, int n, double log_sum) {
  std::vector<int32_t> ids(logits.size());
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
  n = std::min<int>(n, static_cast<int>(ids.size()));
  std::partial_sort(ids.begin(), ids.begin() + n, ids.end(), [&](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  });
  std::vector<TokenLogprob> top;
  for (int i = 0; i < n; ++i) {
    top.push_back({ids[i], static_cast<float>(logits[ids[i]] - log_sum)});
  }
  return top;
}

}  // namespace

double LogSumExp(std::span<const float> logits) {
  const double max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - max);
  return max + std::log(sum);
}

double UniformAt(uint64_t seed, uint64_t counter) {
  constexpr uint64_t kGolden = 0x9e3779b97f4a7c15u;
  // The seed is mixed before the counter is added: streams of nearby seeds do not overlap.
  const uint64_t bits = Mix(Mix(seed + kGolden) + kGolden * (counter + 1));
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

absl::StatusOr<TokenEvent> Sampler::Sample(std::span<const float> logits,
                                           const SamplerInput& input) {
  MEA_CHECK(logits.size() == adjusted_.size());
  const auto is_finite = [](float logit) { return std::isfinite(logit); };
  if (!std::all_of(logits.begin(), logits.end(), is_finite)) {
    return absl::InternalError(absl::StrCat("the model's logits for output token ",
                                            input.output.size(),
                                            " are not finite: weights or hardware are damaged"));
  }

  Adjust(logits, input);
  TokenEvent event;
  event.token_id = input.params->temperature == 0
                       ? ArgMax(adjusted_)
                       : Draw(*input.params, UniformAt(input.params->seed, input.output.size()));
  if (input.num_logprobs.has_value()) {
    const double log_sum = LogSumExp(logits);
    event.logprob = static_cast<float>(logits[event.token_id] - log_sum);
    event.top_logprobs = TopLogprobs(logits, *input.num_logprobs, log_sum);
  }
  return event;
}

void Sampler::Adjust(std::span<const float> logits, const SamplerInput& input) {
  const SamplingParams& params = *input.params;
  if (params.allowed_token_ids.empty()) {
    std::copy(logits.begin(), logits.end(), adjusted_.begin());
  } else {
    std::fill(adjusted_.begin(), adjusted_.end(), kBanned);
    for (const int32_t id : params.allowed_token_ids) adjusted_[id] = logits[id];
  }
  for (const auto& [id, bias] : params.logit_bias) adjusted_[id] += bias;
  ApplyPenalties(input);

  // min_tokens yields where it would leave nothing to draw.
  const bool all_banned =
      !params.allowed_token_ids.empty() &&
      std::all_of(
          params.allowed_token_ids.begin(), params.allowed_token_ids.end(), [&](int32_t id) {
            return std::count(input.banned_tokens.begin(), input.banned_tokens.end(), id) > 0;
          });
  if (all_banned) return;
  for (const int32_t id : input.banned_tokens) adjusted_[id] = kBanned;
}

void Sampler::ApplyPenalties(const SamplerInput& input) {
  const SamplingParams& params = *input.params;
  if (params.repetition_penalty != 1.0f) {
    // Each token once, however often it occurs; counts_ marks those already done.
    for (const auto& tokens : {input.prompt, input.output}) {
      for (const int32_t id : tokens) {
        if (counts_[id]++ > 0) continue;
        float& logit = adjusted_[id];
        logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
      }
    }
    for (const int32_t id : input.prompt) counts_[id] = 0;
    for (const int32_t id : input.output) counts_[id] = 0;
  }
  if (params.presence_penalty != 0.0f || params.frequency_penalty != 0.0f) {
    for (const int32_t id : input.output) ++counts_[id];
    for (const int32_t id : input.output) {
      if (counts_[id] == 0) continue;
      adjusted_[id] -= params.presence_penalty + params.frequency_penalty * counts_[id];
      counts_[id] = 0;
    }
  }
}

int32_t Sampler::Draw(const SamplingParams& params, double uniform) {
  // Relative to the best one, so that no temperature, however low, overflows.
  const float max = *std::max_element(adjusted_.begin(), adjusted_.end());
  MEA_CHECK(max != kBanned);
  candidates_.clear();
  for (size_t id = 0; id < adjusted_.size(); ++id) {
    if (adjusted_[id] == kBanned) continue;
    candidates_.push_back({(adjusted_[id] - max) / params.temperature, static_cast<int32_t>(id)});
  }
  if (params.top_k > 0) KeepBest(params.top_k);
  if (params.top_p < 1.0f) KeepTopP(params.top_p);
  if (params.min_p > 0.0f) KeepMinP(params.min_p);

  double sum = 0;
  for (const Candidate& c : candidates_) sum += std::exp(double{c.logit});
  double left = uniform * sum;
  int32_t last_possible = candidates_.front().token_id;
  for (const Candidate& c : candidates_) {
    const double weight = std::exp(double{c.logit});
    if (weight > 0) last_possible = c.token_id;
    left -= weight;
    if (left < 0) return c.token_id;
  }
  return last_possible;  // the sum was rounded: the remainder belongs to the last token
}

void Sampler::KeepBest(size_t n) {
  n = std::min(n, candidates_.size());
  std::partial_sort(candidates_.begin(), candidates_.begin() + n, candidates_.end(), Better);
  candidates_.resize(n);
}

void Sampler::KeepTopP(double top_p) {
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

void Sampler::KeepMinP(double min_p) {
  const double threshold = std::log(min_p);
  std::erase_if(candidates_, [&](const Candidate& c) { return c.logit < threshold; });
}

}  // namespace mea
