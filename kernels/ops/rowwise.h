#pragma once

#include "kernels/cost.h"
#include "kernels/tensor.h"

// The ops that take each row by itself, and copies.

namespace mea {

class Backend;

// out[i] = scale * table[ids[i]]. On a device an id of -1 - j stands for the token that row j of
// the last Sample drew, so that a step can be launched before the host knows the tokens of the one
// before.
struct EmbedArgs {
  TensorView table;  // [vocab, hidden]
  TensorView ids;    // [num_tokens] i32
  float scale = 1;
  TensorView out;  // [num_tokens, hidden] wide
};
void Check(const EmbedArgs& args, ActivationDTypes dtypes);
OpCost Cost(const EmbedArgs& args, ActivationDTypes dtypes);

// out = gain * x / sqrt(mean(x^2) + eps) over the last dimension; without a gain out = x,
// converted.
struct RmsNormArgs {
  TensorView x;     // [num_tokens, hidden] wide
  TensorView gain;  // [hidden] f32, or absent
  float eps = 1e-6f;
  TensorView out;  // [num_tokens, hidden]
};
void Check(const RmsNormArgs& args, ActivationDTypes dtypes);
OpCost Cost(const RmsNormArgs& args, ActivationDTypes dtypes);

// residual += delta_scale * delta; out = RmsNorm(residual). With a gain of its own the delta is
// normed before it is added: delta_scale * RmsNorm(delta).
struct AddRmsNormArgs {
  TensorView delta;       // [num_tokens, hidden]
  TensorView delta_gain;  // [hidden] f32, or absent
  float delta_scale = 1;
  TensorView residual;  // [num_tokens, hidden] wide
  TensorView gain;      // [hidden] f32, or absent
  float eps = 1e-6f;    // of both norms
  TensorView out;       // [num_tokens, hidden]
};
void Check(const AddRmsNormArgs& args, ActivationDTypes dtypes);
OpCost Cost(const AddRmsNormArgs& args, ActivationDTypes dtypes);

// RmsNorm of activations: gain * x / sqrt(mean(x^2) + eps), say over all query heads of a token;
// out may be x.
struct NormRowsArgs {
  TensorView x;     // [num_tokens, width]
  TensorView gain;  // [width] f32
  float eps = 1e-6f;
  TensorView out;  // [num_tokens, width]
};
void Check(const NormRowsArgs& args, ActivationDTypes dtypes);
OpCost Cost(const NormRowsArgs& args, ActivationDTypes dtypes);

enum class Activation : uint8_t {
  kSilu,      // x sigmoid(x)
  kGeluTanh,  // 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) = x sigmoid(2 sqrt(2 / pi) (...))
};

// out = activation(gate) * up; out may be gate.
struct GatedActivationArgs {
  TensorView gate;  // [num_tokens, width], as all
  TensorView up;
  Activation activation = Activation::kSilu;
  TensorView out;
};
void Check(const GatedActivationArgs& args, ActivationDTypes dtypes);
OpCost Cost(const GatedActivationArgs& args, ActivationDTypes dtypes);

// out = scale * sigmoid(gate) * up; out may be gate.
struct SigmoidGateArgs {
  TensorView gate;  // [num_tokens, width], as all
  TensorView up;
  float scale = 1;
  TensorView out;
};
void Check(const SigmoidGateArgs& args, ActivationDTypes dtypes);
OpCost Cost(const SigmoidGateArgs& args, ActivationDTypes dtypes);

// out[n, g] = sum_c mix[c, g] * x[n, c]: new heads of each token from its own.
struct MixHeadsArgs {
  TensorView x;    // [num_tokens, in_heads, head_dim]
  TensorView mix;  // [in_heads, out_heads] f32
  TensorView out;  // [num_tokens, out_heads, head_dim]
};
void Check(const MixHeadsArgs& args, ActivationDTypes dtypes);
OpCost Cost(const MixHeadsArgs& args, ActivationDTypes dtypes);

// out[i] = x[rows[i]]
struct GatherRowsArgs {
  TensorView x;     // [*, width]
  TensorView rows;  // [num_rows] i32
  TensorView out;   // [num_rows, width]
};
void Check(const GatherRowsArgs& args, ActivationDTypes dtypes);
OpCost Cost(const GatherRowsArgs& args, ActivationDTypes dtypes);

// Of one shape and dtype; matrices may have rows apart by any stride, all else is dense.
struct CopyArgs {
  TensorView from;
  TensorView to;
};
void Check(const CopyArgs& args, ActivationDTypes dtypes);
OpCost Cost(const CopyArgs& args, ActivationDTypes dtypes);

// From another back end's memory; both dense, of one shape and dtype.
struct ReceiveArgs {
  Backend* sender = nullptr;  // of the receiver's kind
  TensorView from;            // the sender's
  TensorView to;
};
void Check(const ReceiveArgs& args, ActivationDTypes dtypes);
OpCost Cost(const ReceiveArgs& args, ActivationDTypes dtypes);

}  // namespace mea
