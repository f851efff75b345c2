#pragma once

#include <span>

#include "kernels/cost.h"
#include "kernels/tensor.h"

// The ops that read weight matrices: products, and the mixture of experts.

namespace mea {

// One of the matrices that MatMul applies to the same rows.
struct Projection {
  TensorView w;     // [out, in]
  TensorView bias;  // [out] f32, or absent
  TensorView out;   // [num_tokens, out] compute or wide dtype; may be columns of a wider buffer
};

// out = x w^T + bias for every projection. A device does those in one product whose weights, and
// outputs, lie side by side in memory.
struct MatMulArgs {
  TensorView x;  // [num_tokens, in]
  std::span<const Projection> projections;
};
void Check(const MatMulArgs& args, ActivationDTypes dtypes);
OpCost Cost(const MatMulArgs& args, ActivationDTypes dtypes);

// One expert: a SwiGLU network of its own.
struct Expert {
  TensorView gate;  // [ffn, hidden]
  TensorView up;    // [ffn, hidden]
  TensorView down;  // [hidden, ffn]
};

// A mixture of experts in place of a feed-forward network. With l = x router^T and P = softmax(l)
// over all experts, a row goes to the top_k experts of the largest l; of equal ones the first
// counts more, and NaN counts least. Over these, in the order of their indices,
//   out = sum_e g_e down_e (silu(gate_e x) * up_e x)
// with g_e = P_e, divided by their sum where they are renormalised. A row's result, and which
// experts it goes to, depends on that row alone, bit for bit.
struct MoeArgs {
  TensorView x;                     // [num_tokens, hidden]
  TensorView router;                // [num_experts, hidden]
  std::span<const Expert> experts;  // on a device each as far from the one before as the next
  int top_k = 0;                    // 1..num_experts
  bool renormalise = true;
  // The caller's working memory; what the op leaves in it means nothing.
  TensorView inner;  // [num_tokens * top_k, ffn]
  TensorView rows;   // [num_tokens * top_k, hidden]
  TensorView out;    // [num_tokens, hidden]
};
void Check(const MoeArgs& args, ActivationDTypes dtypes);
OpCost Cost(const MoeArgs& args, ActivationDTypes dtypes);

}  // namespace mea
