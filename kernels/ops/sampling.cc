#include "kernels/ops/sampling.h"

#include "kernels/ops/operands.h"

namespace mea {
namespace {

void CheckLogits(TensorView logits, size_t num_rows, size_t num_results, ActivationDTypes dtypes) {
  MEA_CHECK(logits.dtype == dtypes.wide);
  MEA_CHECK(HasShape(logits, {static_cast<int64_t>(num_rows), logits.shape[1]}));
  MEA_CHECK(num_results == num_rows);
}

}  // namespace

void Check(const SampleArgs& args, ActivationDTypes dtypes) {
  CheckLogits(args.logits, args.rows.size(), args.tokens.size(), dtypes);
  const int64_t words = MaskWords(args.logits.shape[1]);
  MEA_CHECK(std::ssize(args.masks) % words == 0);
  for (const SampleRow& row : args.rows) MEA_CHECK(row.mask < std::ssize(args.masks) / words);
}
// Reads the logits, which a step's cost leaves out; so for the next.
OpCost Cost(const SampleArgs& /*args*/, ActivationDTypes /*dtypes*/) { return {}; }

void Check(const TokenLogprobsArgs& args, ActivationDTypes dtypes) {
  CheckLogits(args.logits, args.targets.size(), args.logprobs.size(), dtypes);
}
OpCost Cost(const TokenLogprobsArgs& /*args*/, ActivationDTypes /*dtypes*/) { return {}; }

}  // namespace mea
