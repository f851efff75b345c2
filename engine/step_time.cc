#include "engine/step_time.h"

#include <algorithm>
#include <cmath>

namespace mea {
namespace {

constexpr double kDecay = 1.0 - 1.0 / 64;
constexpr double kMostHeldUp = 4;
constexpr double kRidge = 1e-3;  // relative to the square of one step's share, for each coefficient

// Solves a x = b for the features in `mask` by elimination without pivots: a is positive definite.
// The others stay 0.
void Solve(const double (&moments)[3][3], const double (&sums)[3], int mask, double (&x)[3]) {
  double a[3][3], b[3];
  for (int i = 0; i < 3; ++i) {
    const bool used = (mask >> i & 1) != 0;
    for (int j = 0; j < 3; ++j) a[i][j] = used && (mask >> j & 1) != 0 ? moments[i][j] : i == j;
    a[i][i] += kRidge * moments[0][0];
    b[i] = used ? sums[i] : 0;
  }
  for (int k = 0; k < 3; ++k) {
    for (int i = k + 1; i < 3; ++i) {
      const double factor = a[i][k] / a[k][k];
      for (int j = k; j < 3; ++j) a[i][j] -= factor * a[k][j];
      b[i] -= factor * b[k];
    }
  }
  for (int k = 2; k >= 0; --k) {
    for (int j = k + 1; j < 3; ++j) b[k] -= a[k][j] * x[j];
    x[k] = b[k] / a[k][k];
  }
}

// The remaining squared error, up to a constant.
double ErrorLeft(const double (&moments)[3][3], const double (&sums)[3], const double (&x)[3]) {
  double error = 0;
  for (int i = 0; i < 3; ++i) {
    error += (kRidge * moments[0][0] * x[i] - 2 * sums[i]) * x[i];
    for (int j = 0; j < 3; ++j) error += x[i] * moments[i][j] * x[j];
  }
  return error;
}

}  // namespace

void StepTimeModel::Observe(const StepReport& report) {
  if (report.seconds <= 0 || report.num_prefill_tokens + report.num_decode_tokens == 0) return;
  if (is_known()) {
    const double fitted =
        FitShape().Seconds(1, report.num_prefill_tokens, report.num_decode_tokens);
    fitted_ = kDecay * fitted_ + fitted;
    seconds_ = kDecay * seconds_ + std::min(report.seconds, kMostHeldUp * fitted);
  }
  ++num_steps_;
  const double features[kFeatures] = {1 / report.seconds,
                                      report.num_prefill_tokens / report.seconds,
                                      report.num_decode_tokens / report.seconds};
  for (int i = 0; i < kFeatures; ++i) {
    for (int j = 0; j < kFeatures; ++j) {
      moments_[i][j] = kDecay * moments_[i][j] + features[i] * features[j];
    }
    sums_[i] = kDecay * sums_[i] + features[i];
  }
}

StepTime StepTimeModel::Fit() const {
  StepTime time = FitShape();
  const double scale = fitted_ > 0 ? seconds_ / fitted_ : 1;
  time.step *= scale;
  time.prompt_token *= scale;
  time.decode_token *= scale;
  return time;
}

// There are few features, so all subsets are tried; the best one without negative coefficients
// wins.
StepTime StepTimeModel::FitShape() const {
  StepTime best;
  if (num_steps_ == 0) return best;
  double least_error = 0;
  for (int mask = 1; mask < 1 << kFeatures; ++mask) {
    double x[kFeatures] = {};
    Solve(moments_, sums_, mask, x);
    if (*std::min_element(x, x + kFeatures) < 0) continue;
    const double error = ErrorLeft(moments_, sums_, x);
    if (error >= least_error) continue;
    least_error = error;
    best = {.step = x[0], .prompt_token = x[1], .decode_token = x[2]};
  }
  return best;
}

}  // namespace mea
