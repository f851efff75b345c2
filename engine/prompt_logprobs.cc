#include "engine/prompt_logprobs.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/status_macros.h"

namespace mea {
namespace {

// The most likely tokens of each row, as the greedy draws of these rows report them.
absl::Status TopOfRows(Model& model, TensorView logits, int num_top,
                       std::span<PromptLogprob> logprobs) {
  const std::vector<SampleRow> rows(logprobs.size(), {.temperature = 0, .num_top = num_top});
  std::vector<SampledToken> tokens(rows.size());
  model.backend().Sample({.logits = logits, .rows = rows, .tokens = tokens});
  MEA_RETURN_IF_ERROR(model.Synchronize());
  const int count = static_cast<int>(std::min<int64_t>(num_top, logits.shape[1]));
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i].is_finite == 0) continue;  // the following draw reports it
    for (int top = 0; top < count; ++top) {
      logprobs[i].top.push_back({tokens[i].top_ids[top], tokens[i].top_logprobs[top]});
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ExtendPromptLogprobs(Model& model, int first_row, int end, Sequence& sequence) {
  const std::span<const int32_t> prompt = sequence.request.prompt;
  const int num_top = sequence.request.logprobs.value_or(0);
  std::vector<PromptLogprob>& logprobs = sequence.prompt_logprobs;
  end = std::min(end, sequence.prompt_length() - 1);
  for (int first = static_cast<int>(logprobs.size()); first < end;) {
    const int count = std::min(end - first, model.limits().max_logit_rows);
    std::vector<int32_t> rows(count);
    std::iota(rows.begin(), rows.end(), first_row + first);
    std::vector<float> own(count);
    const TensorView logits = model.Logits(rows);
    model.backend().TokenLogprobs(
        {.logits = logits, .targets = prompt.subspan(first + 1, count), .logprobs = own});
    MEA_RETURN_IF_ERROR(model.Synchronize());
    for (const float logprob : own) logprobs.push_back({.logprob = logprob});
    if (num_top > 0) {
      MEA_RETURN_IF_ERROR(TopOfRows(model, logits, num_top, std::span(logprobs).subspan(first)));
    }
    first += count;
  }
  return absl::OkStatus();
}

}  // namespace mea
