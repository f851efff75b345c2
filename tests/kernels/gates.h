#pragma once

#include <string>

#include "kernels/backend.h"

namespace mea {

// An op of the form out = f(gate) * up.
struct GateOp {
  std::string name;
  void (*call)(Backend& backend, TensorView gate, TensorView up, TensorView out);
};

// All of them, for the tests of each back end.
inline const GateOp kGates[] = {
    {"SwiGlu",
     [](Backend& backend, TensorView gate, TensorView up, TensorView out) {
       backend.GatedActivation({.gate = gate, .up = up, .out = out});
     }},
    {"GeGlu",
     [](Backend& backend, TensorView gate, TensorView up, TensorView out) {
       backend.GatedActivation(
           {.gate = gate, .up = up, .activation = Activation::kGeluTanh, .out = out});
     }},
    {"SigmoidGate",
     [](Backend& backend, TensorView gate, TensorView up, TensorView out) {
       backend.SigmoidGate({.gate = gate, .up = up, .scale = 2.0f, .out = out});
     }},
};

}  // namespace mea
