#pragma once

#include "kernels/backend.h"

namespace mea::reference {

// The ops of an attention layer around its cache, as kernels/ops defines them.
void ComputeRope(const ComputeRopeArgs& args);
void PrepareQueries(const PrepareQueriesArgs& args);
void AppendKv(const AppendKvArgs& args);
void PagedAttention(const PagedAttentionArgs& args);
void InterleavedAttention(const InterleavedAttentionArgs& args);

}  // namespace mea::reference
