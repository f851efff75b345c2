#pragma once

#include "kernels/backend.h"

namespace mea::cpu {

// The angles of row `token` of the result, in double on every instruction set.
void ComputeRopeRow(const ComputeRopeArgs& args, int64_t token);

}  // namespace mea::cpu
