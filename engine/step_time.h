#pragma once

#include <cstdint>

#include "engine/engine.h"

namespace mea {

// The time of a step: seconds = step + prompt_token * prompt tokens + decode_token * decoded
// tokens.
struct StepTime {
  double step = 0;
  double prompt_token = 0;
  double decode_token = 0;

  double Seconds(double steps, double prompt_tokens, double decode_tokens) const {
    return steps * step + prompt_tokens * prompt_token + decode_tokens * decode_token;
  }
};

// Learns the three coefficients from past steps; a step 64 steps ago counts 1/e of the newest.
// Least squares of the relative error separates them, ignoring steps that something else delayed.
// None is negative. If the steps do not determine them all (every step may have decoded the same
// number of tokens), the time is attributed to the tokens rather than to the step, so that smaller
// steps are estimated as cheaper. The result is then scaled to the total time of all steps, in
// which a delayed step counts as at most four of its kind.
class StepTimeModel {
 public:
  void Observe(const StepReport& report);

  // Whether there were enough steps to rely on it.
  bool is_known() const { return num_steps_ >= kLeastSteps; }
  StepTime Fit() const;

 private:
  StepTime FitShape() const;

  static constexpr int kFeatures = 3;
  static constexpr int kLeastSteps = 32;

  int64_t num_steps_ = 0;
  double moments_[kFeatures][kFeatures] = {};  // of features / seconds
  double sums_[kFeatures] = {};
  double seconds_ = 0;  // that steps took
  double fitted_ = 0;   // and by their shape
};

}  // namespace mea
