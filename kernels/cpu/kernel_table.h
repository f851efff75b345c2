#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/prepare_append.h"
#include "kernels/cpu/rowwise.h"

namespace mea::cpu {

// The inner loops of the back end, all built for one instruction set. Chosen once, when a back end
// is created; back ends of different targets may live side by side.
struct KernelTable {
  const char* target;  // "AVX2", as hwy::TargetName spells it, or "AVX3_BF16", ...
  MatMulKernels matmul;
  RowKernels rows;
  PrepareAppendKernels prepare_append;
  AttentionKernels attention;
  InterleavedAttentionKernels interleaved_attention;
};

// The instruction sets that this build and this machine share, best first.
std::vector<std::string> AvailableTargets();

// The kernels of the instruction set called `target`, or of the best one where it is empty.
// INVALID_ARGUMENT names those available.
absl::StatusOr<KernelTable> SelectKernels(std::string_view target);

}  // namespace mea::cpu
