#pragma once

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "engine/convert/compose.h"
#include "engine/convert/random.h"

namespace mea::convert {

// Share of the mean diagonal entry, added to a solver's matrix that may be singular.
inline constexpr double kRidge = 1e-12;

// One descent of alternating least squares. Every third sweep tries to extrapolate beyond the last
// one, further each time that it helps: such iterations creep along valleys.
template <typename Solver>
class Descent {
 public:
  using State = typename Solver::State;

  Descent(const Solver& solver, State start) : solver_(&solver), state_(std::move(start)) {}

  // Until `max_sweeps` in all, or until ten sweeps gain too little.
  void Run(int max_sweeps, double tolerance) {
    constexpr int kWindow = 10;
    constexpr double kExact = 1e-15;  // of the energy: only rounding errors are left
    while (static_cast<int>(errors_.size()) < max_sweeps) {
      const State before = state_;
      errors_.push_back(solver_->Sweep(state_));
      const size_t n = errors_.size();
      if (errors_.back() < kExact) return;
      if (n > kWindow && errors_[n - 1 - kWindow] - errors_[n - 1] < tolerance * errors_[n - 1]) {
        return;
      }
      if (n % 3 == 0) Leap(before);
    }
  }

  double error() const { return errors_.back(); }  // before the last sweep's moves
  const State& state() const { return state_; }
  const std::vector<double>& errors() const { return errors_; }

 private:
  void Leap(const State& before) {
    State beyond = State::Beyond(before, state_, leap_);
    solver_->Project(beyond);
    if (solver_->Error(beyond) < solver_->Error(state_)) {
      state_ = std::move(beyond);
      leap_ *= 1.5;
    } else {
      leap_ = std::max(1.0, leap_ / 2);
    }
  }

  const Solver* solver_;
  State state_;
  std::vector<double> errors_;
  double leap_ = 2;
};

// A short descent from every start, then a long one from the best.
template <typename Solver>
typename Solver::State Alternate(const Solver& solver, const AlignOptions& options,
                                 std::vector<double>* trace) {
  constexpr int kShort = 20;  // sweeps
  constexpr int kLong = 2;    // descents that continue
  Random random(options.seed);
  std::vector<Descent<Solver>> descents;
  for (auto& start : solver.Starts(random)) {
    descents.emplace_back(solver, std::move(start));
    descents.back().Run(std::min(kShort, options.max_sweeps), options.tolerance);
  }
  const auto by_error = [](const auto& a, const auto& b) { return a.error() < b.error(); };
  std::stable_sort(descents.begin(), descents.end(), by_error);
  if (descents.size() > kLong) descents.erase(descents.begin() + kLong, descents.end());
  for (auto& descent : descents) descent.Run(options.max_sweeps, options.tolerance);
  const auto best = std::min_element(descents.begin(), descents.end(), by_error);
  if (trace != nullptr) *trace = best->errors();
  return best->state();
}

}  // namespace mea::convert
