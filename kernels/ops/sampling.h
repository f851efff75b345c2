#pragma once

#include <cstdint>
#include <span>

#include "kernels/cost.h"
#include "kernels/sample.h"
#include "kernels/tensor.h"

// The ops that end a forward pass. All but the logits is host memory, left alone until the results
// are there: after Synchronize or the wait for an event behind the op.

namespace mea {

// Draws tokens[i] from row i of the logits as kernels/sample.h says.
struct SampleArgs {
  TensorView logits;  // [rows.size(), vocab] wide
  std::span<const SampleRow> rows;
  std::span<const LogitEdit> edits;
  std::span<const uint32_t> masks;  // [n, MaskWords(vocab)]
  std::span<SampledToken> tokens;   // as many as rows
};
void Check(const SampleArgs& args, ActivationDTypes dtypes);
OpCost Cost(const SampleArgs& args, ActivationDTypes dtypes);

// logprobs[i] = log softmax(logits[i])[targets[i]].
struct TokenLogprobsArgs {
  TensorView logits;  // [targets.size(), vocab] wide
  std::span<const int32_t> targets;
  std::span<float> logprobs;  // as many as targets
};
void Check(const TokenLogprobsArgs& args, ActivationDTypes dtypes);
OpCost Cost(const TokenLogprobsArgs& args, ActivationDTypes dtypes);

}  // namespace mea
