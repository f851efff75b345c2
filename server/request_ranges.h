#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/request.h"
#include "server/field_error.h"

namespace mea {

// The values that one scalar field of GenerateRequest may take. The only place that states them:
// requests are checked against it and GetModelInfo shows it.
struct FieldRange {
  std::string_view field;
  double min = 0;
  double max = 0;
  bool min_exclusive = false;
};

inline constexpr FieldRange kTemperatureRange{"sampling.temperature", 0, 2};
inline constexpr FieldRange kTopPRange{"sampling.top_p", 0, 1, /*min_exclusive=*/true};
inline constexpr FieldRange kMinPRange{"sampling.min_p", 0, 1};
inline constexpr FieldRange kRepetitionPenaltyRange{"sampling.repetition_penalty", 0.01, 10};
inline constexpr FieldRange kPresencePenaltyRange{"sampling.presence_penalty", -2, 2};
inline constexpr FieldRange kFrequencyPenaltyRange{"sampling.frequency_penalty", -2, 2};
inline constexpr FieldRange kLogitBiasRange{"sampling.logit_bias", -100, 100};
inline constexpr FieldRange kLogprobsRange{"response.logprobs", 0, 20};
inline constexpr FieldRange kPriorityRange{"priority", -1000, 1000};
inline constexpr FieldRange TopKRange(int vocab_size) {
  return {"sampling.top_k", 0, static_cast<double>(vocab_size)};
}
// Of max_tokens and min_tokens: a prompt has at least one token.
inline constexpr FieldRange MaxTokensRange(int max_context) {
  return {"stopping.max_tokens", 1, static_cast<double>(max_context - 1)};
}
inline constexpr FieldRange MinTokensRange(int max_context) {
  return {"stopping.min_tokens", 0, static_cast<double>(max_context - 1)};
}

// Completions of a request are computed together, in one step.
inline constexpr FieldRange CompletionsRange(int max_num_seqs) {
  return {"sampling.n", 1, static_cast<double>(std::min(kMaxCompletions, max_num_seqs))};
}

inline std::vector<FieldRange> AllRanges(int vocab_size, int max_context, int max_num_seqs) {
  return {kTemperatureRange,
          TopKRange(vocab_size),
          kTopPRange,
          kMinPRange,
          kRepetitionPenaltyRange,
          kPresencePenaltyRange,
          kFrequencyPenaltyRange,
          kLogitBiasRange,
          CompletionsRange(max_num_seqs),
          MaxTokensRange(max_context),
          MinTokensRange(max_context),
          kLogprobsRange,
          kPriorityRange};
}

// INVALID_ARGUMENT naming field, value and bound. NaN is outside every range.
template <typename T>
absl::Status CheckRange(const FieldRange& range, T value) {
  // Bounds in the field's own precision: a float of 0.01 is less than the double.
  const T min = static_cast<T>(range.min);
  const T max = static_cast<T>(range.max);
  if (value <= max && (range.min_exclusive ? value > min : value >= min)) {
    return absl::OkStatus();
  }
  const auto bound = [](double x) {
    return x == std::floor(x) ? std::to_string(static_cast<int64_t>(x)) : absl::StrCat(x);
  };
  return FieldError(range.field,
                    absl::StrCat(value, " is outside ", bound(range.min), "..", bound(range.max),
                                 range.min_exclusive ? ", the least excluded" : ""));
}

}  // namespace mea
