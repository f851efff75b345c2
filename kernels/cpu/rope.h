#pragma once

#include "kernels/backend.h"

namespace mea::cpu {

// The steps between projections and attention, for one token each (row `token` of the arguments; of
// the angles, row `token` of the result). Plain loops: they move a few kilobytes per token,
// compared with megabytes of weights.
void ComputeRopeRow(const ComputeRopeArgs& args, int64_t token);
void PrepareQueryRow(const PrepareQueriesArgs& args, int64_t token);
void AppendKvRow(const AppendKvArgs& args, int64_t token);

}  // namespace mea::cpu
