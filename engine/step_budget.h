#pragma once

#include <limits>
#include <optional>

#include "absl/time/time.h"
#include "engine/step_time.h"

namespace mea {

// What the next step could compute.
struct StepLoad {
  int num_decodes = 0;  // sequences that draw in it
  int num_prompts = 0;  // prompts in progress, and those that could begin
  friend bool operator==(const StepLoad&, const StepLoad&) = default;
};

inline constexpr int kUnlimitedPromptTokens = std::numeric_limits<int>::max();

// How many prompt tokens a step may compute. Decoding sequences wait for the whole step, so it
// should take no longer than `target_itl`; absent: a few times what it takes without prompts, more
// where prompts pile up. At least kLeastPromptTokens, so that prompts progress and products are not
// too small, and no more while nothing is known. No limit if nothing decodes or `target_itl` is
// infinite. Engine thread only.
class StepBudget {
 public:
  static constexpr int kLeastPromptTokens = 24;

  explicit StepBudget(std::optional<absl::Duration> target_itl) : target_itl_(target_itl) {}

  // What a step took.
  void Observe(const StepReport& report);
  // For the next step.
  int PromptTokens(StepLoad load) const;
  // For all steps but the probes.
  int UsualPromptTokens(StepLoad load) const;

  const StepTimeModel& step_time() const { return step_time_; }

 private:
  bool IsLimited(StepLoad load) const;

  // Prompts beside decodes have a step in kProbePeriod with a single token.
  static constexpr int kProbePeriod = 32;

  const std::optional<absl::Duration> target_itl_;
  StepTimeModel step_time_;
  int num_mixed_steps_ = 0;  // with more than one prompt token, since one without
};

}  // namespace mea
