#pragma once

#include <string>

#include "kernels/backend.h"

namespace mea {

// A norm before, after and between layers: which gains are there, and what the delta is scaled by.
struct NormCase {
  std::string name;
  bool has_delta_gain;
  float delta_scale;
  bool has_gain;
};

// For the tests of each back end.
inline const NormCase kNorms[] = {
    {"norm of the sum", false, 1.0f, true},
    {"norm of the delta", true, 1.0f, false},
    {"both", true, 1.0f, true},
    {"both, scaled", true, 0.22f, true},
    {"scaled sum", false, 0.22f, false},
    {"plain sum", false, 1.0f, false},
};

// Those of the gains that the case has.
inline AddRmsNormArgs NormArgs(const NormCase& norm, TensorView delta, TensorView delta_gain,
                               TensorView residual, TensorView gain, TensorView out) {
  return {.delta = delta,
          .delta_gain = norm.has_delta_gain ? delta_gain : TensorView(),
          .delta_scale = norm.delta_scale,
          .residual = residual,
          .gain = norm.has_gain ? gain : TensorView(),
          .eps = 1e-2f,
          .out = out};
}

}  // namespace mea
