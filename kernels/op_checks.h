#pragma once

#include "kernels/backend.h"

namespace mea {

// The door of every op, the same for all host back ends: shapes, dtypes and strides as backend.h
// states them. A caller that breaks them has a bug, so these abort. `compute` is the back end's
// compute dtype; ids, positions and lengths are I32.
void CheckEmbed(TensorView table, TensorView ids, TensorView out, DType compute);
void CheckRmsNorm(TensorView x, TensorView gain, TensorView out, DType compute);
void CheckMatMul(TensorView x, TensorView w, TensorView bias, TensorView out, DType compute);
void CheckSwiGlu(TensorView gate, TensorView up, TensorView out, DType compute);
void CheckGatherRows(TensorView x, TensorView rows, TensorView out, DType compute);
void CheckComputeRope(const RopeArgs& args, DType compute);
void CheckPrepareQueries(const PrepareQueriesArgs& args, DType compute);
void CheckAppendKv(const AppendKvArgs& args, DType compute);
void CheckPagedAttention(const PagedAttentionArgs& args, DType compute);

}  // namespace mea
