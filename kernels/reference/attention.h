#pragma once

#include "kernels/backend.h"

namespace mea::reference {

// The ops of an attention layer around its cache, as backend.h defines them.
void ComputeRope(const RopeArgs& args);
void PrepareQueries(const PrepareQueriesArgs& args);
void AppendKv(const AppendKvArgs& args);
void PagedAttention(const PagedAttentionArgs& args);
void InterleavedAttention(const InterleavedAttentionArgs& args);

}  // namespace mea::reference
