#include "engine/step_budget.h"

#include <algorithm>

namespace mea {
namespace {

// The time of prompts beside decodes, as a multiple of the time of those decodes alone. With few
// prompts a step takes 2.5 times what it takes without them. If that is too little for the prompts
// that arrive, they pile up; once there are more than three prompts for each four decoding
// sequences, they get more, in proportion. By simulation, larger multiples hardly gain throughput:
// the decodes that ride along save steps of their own.
constexpr double kLeastMultiple = 1.5;
constexpr double kMultiplePerPrompt = 2;

}  // namespace

void StepBudget::Observe(const StepReport& report) {
  step_time_.Observe(report);
  if (report.num_decode_tokens == 0) return;
  num_mixed_steps_ = report.num_prefill_tokens > 1 ? num_mixed_steps_ + 1 : 0;
}

bool StepBudget::IsLimited(StepLoad load) const {
  return load.num_decodes > 0 && target_itl_ != absl::InfiniteDuration();
}

int StepBudget::PromptTokens(StepLoad load) const {
  // If all steps were alike, they would not tell the time of decodes from that of prompts.
  if (IsLimited(load) && num_mixed_steps_ >= kProbePeriod) return 1;
  return UsualPromptTokens(load);
}

int StepBudget::UsualPromptTokens(StepLoad load) const {
  if (!IsLimited(load)) return kUnlimitedPromptTokens;
  if (!step_time_.is_known()) return kLeastPromptTokens;
  const StepTime time = step_time_.Fit();
  const double decode_seconds = time.Seconds(1, 0, load.num_decodes);
  const double multiple =
      std::max(kLeastMultiple, kMultiplePerPrompt * load.num_prompts / load.num_decodes);
  const double seconds = target_itl_ ? absl::ToDoubleSeconds(*target_itl_) - decode_seconds
                                     : multiple * decode_seconds;
  if (seconds <= 0) return kLeastPromptTokens;
  if (seconds >= kUnlimitedPromptTokens * time.prompt_token) return kUnlimitedPromptTokens;
  return std::max(kLeastPromptTokens, static_cast<int>(seconds / time.prompt_token));
}

}  // namespace mea
