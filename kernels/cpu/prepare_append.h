#pragma once

#include "kernels/backend.h"

namespace mea::cpu {

// The steps between projections and attention, for tokens [begin, end) of their arguments.
struct PrepareAppendKernels {
  void (*prepare_queries)(const PrepareQueriesArgs& args, int64_t begin, int64_t end);
  void (*append_kv)(const AppendKvArgs& args, int64_t begin, int64_t end);
};

// The kernels of the target that Highway has chosen.
PrepareAppendKernels GetPrepareAppendKernels();

}  // namespace mea::cpu
