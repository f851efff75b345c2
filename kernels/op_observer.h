#pragma once

#include <string_view>
#include <variant>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/linear.h"
#include "kernels/ops/rowwise.h"
#include "kernels/ops/sampling.h"

namespace mea {

// The arguments of one op, whichever.
using OpArgs =
    std::variant<const EmbedArgs*, const RmsNormArgs*, const AddRmsNormArgs*, const NormRowsArgs*,
                 const MatMulArgs*, const GatedActivationArgs*, const MoeArgs*,
                 const SigmoidGateArgs*, const MixHeadsArgs*, const GatherRowsArgs*,
                 const ComputeRopeArgs*, const PrepareQueriesArgs*, const AppendKvArgs*,
                 const PrepareAndAppendArgs*, const PagedAttentionArgs*,
                 const InterleavedAttentionArgs*, const SampleArgs*, const TokenLogprobsArgs*,
                 const CopyArgs*, const ReceiveArgs*>;

// One call of an op.
struct OpCall {
  std::string_view name;  // "MatMul"; of copies "Upload", "Download" and "Copy"
  OpArgs args;
  ActivationDTypes dtypes;

  // The arguments if they are of this op, else null.
  template <typename Args>
  const Args* As() const {
    const Args* const* args_of_op = std::get_if<const Args*>(&args);
    return args_of_op == nullptr ? nullptr : *args_of_op;
  }
};

// Stands between a back end's callers and its ops, to time them or to make them fail. Ops that a
// device repeats as a graph are not called, so nobody sees them.
class OpObserver {
 public:
  virtual ~OpObserver() = default;
  // The arguments have been checked; `run` is the op.
  virtual void OnOp(const OpCall& /*call*/, absl::FunctionRef<void()> run) { run(); }
  // WaitEvent and Synchronize.
  virtual absl::Status OnWait(absl::FunctionRef<absl::Status()> wait) { return wait(); }
};

}  // namespace mea
