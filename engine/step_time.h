#pragma once

#include <cstdint>

#include "engine/engine.h"

namespace mea {

// What steps take: seconds = step + prompt_token * prompt tokens + decode_token * decoded tokens.
struct StepTime {
  double step = 0;
  double prompt_token = 0;
  double decode_token = 0;

  double Seconds(double steps, double prompt_tokens, double decode_tokens) const {
    return steps * step + prompt_tokens * prompt_token + decode_tokens * decode_token;
  }
};

// Learns the time of steps from those that were, a step 64 steps ago counting 1/e of the newest.
// Least squares of the relative error tells the three coefficients apart, without heed to steps
// that were held up by something else; none is negative, and what the steps leave open (they may
// all have decoded the same number of tokens) is laid on the tokens rather than the step, so that
// smaller steps are thought cheap. The whole is then scaled to what all steps took together, of
// which one that was held up counts as four of its kind at most.
class StepTimeModel {
 public:
  void Observe(const StepReport& report);

  // Enough steps to believe it.
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
