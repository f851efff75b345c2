#include "kernels/cpu/kernel_table.h"

#include <hwy/highway.h>

#include <mutex>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/cpu/bf16_matmul.h"
#include "kernels/cpu/int4_matmul.h"
#include "kernels/cpu/int8_matmul.h"
#include "kernels/cpu/vnni_matmul.h"

namespace mea::cpu {
namespace {

// A row of the table: an instruction set of Highway, and the products that its 1.0.3 does not know.
struct Target {
  const char* name;
  int64_t base;
  bool has_pairs = false;  // dot products of BF16, in attention as well
  ProductKernels (*int8)() = GetInt8MatMulKernels;
  ProductKernels (*int4)() = GetInt4MatMulKernels;
};

// Those of this build and this machine, best first.
std::vector<Target> Targets() {
  std::vector<Target> targets;
  for (const int64_t base : hwy::SupportedAndGeneratedTargets()) {
    if (base == HWY_AVX3 && HasVnniProducts()) {
      if (HasBf16Products()) {
        targets.push_back({.name = "AVX3_BF16",
                           .base = base,
                           .has_pairs = true,
                           .int8 = GetVnniMatMulKernels,
                           .int4 = GetVnniInt4MatMulKernels});
      }
      targets.push_back({.name = "AVX3_VNNI",
                         .base = base,
                         .int8 = GetVnniMatMulKernels,
                         .int4 = GetVnniInt4MatMulKernels});
    }
    if (base == HWY_AVX2 && HasAvxVnniProducts()) {
      targets.push_back({.name = "AVX2_VNNI",
                         .base = base,
                         .int8 = GetAvxVnniMatMulKernels,
                         .int4 = GetAvxVnniInt4MatMulKernels});
    }
    targets.push_back({.name = hwy::TargetName(base),
                       .base = base,
                       .int4 = base == HWY_AVX3   ? GetAvx512Int4MatMulKernels
                               : base == HWY_AVX2 ? GetAvx2Int4MatMulKernels
                                                  : GetInt4MatMulKernels});
  }
  return targets;
}

// Highway dispatches through a process-wide choice; hold it still while one table is filled. The
// thread sanitizer sees a std::mutex, and not Abseil's.
KernelTable KernelsOf(const Target& target) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  hwy::GetChosenTarget().Update(target.base);
  const ProductKernels floats = GetFloatMatMulKernels();
  const KernelTable table = {
      .target = target.name,
      .matmul = {.floats = floats,
                 .bf16 = target.has_pairs ? GetBf16MatMulKernels() : floats,
                 .int8 = target.int8(),
                 .int4 = target.int4()},
      .rows = GetRowKernels(),
      .prepare_append = GetPrepareAppendKernels(),
      .attention = GetAttentionKernels(target.has_pairs),
      .interleaved_attention = GetInterleavedAttentionKernels(target.has_pairs)};
  hwy::GetChosenTarget().DeInit();
  return table;
}

}  // namespace

std::vector<std::string> AvailableTargets() {
  std::vector<std::string> names;
  for (const Target& target : Targets()) names.emplace_back(target.name);
  return names;
}

absl::StatusOr<KernelTable> SelectKernels(std::string_view name) {
  for (const Target& target : Targets()) {
    if (name.empty() || name == target.name) return KernelsOf(target);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("CPU target \"", absl::string_view(name.data(), name.size()),
                   "\" is not one of ", absl::StrJoin(AvailableTargets(), ", ")));
}

}  // namespace mea::cpu
