#include "kernels/cpu/kernel_table.h"

#include <hwy/highway.h>

#include <mutex>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/cpu/bf16_matmul.h"
#include "kernels/cpu/int8_matmul.h"
#include "kernels/cpu/vnni_matmul.h"

namespace mea::cpu {
namespace {

// A row above those of Highway, whose 1.0.3 compiles no dot products.
constexpr char kBf16Target[] = "AVX3_BF16";

bool HasBf16Target() {
  return (hwy::SupportedAndGeneratedTargets().front() & HWY_AVX3) != 0 && HasBf16Products() &&
         HasVnniProducts();
}

// Highway dispatches through a process-wide choice; hold it still while one table is filled. The
// thread sanitizer sees a std::mutex, and not Abseil's.
KernelTable KernelsOf(int64_t target, bool by_dots) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  hwy::GetChosenTarget().Update(target);
  const ProductKernels floats = GetFloatMatMulKernels();
  const KernelTable table = {
      .target = by_dots ? kBf16Target : hwy::TargetName(target),
      .matmul = {.floats = floats,
                 .bf16 = by_dots ? GetBf16MatMulKernels() : floats,
                 .int8 = by_dots ? GetVnniMatMulKernels() : GetInt8MatMulKernels()},
      .rows = GetRowKernels(),
      .attention = GetAttentionKernels(by_dots),
      .interleaved_attention = GetInterleavedAttentionKernels(by_dots)};
  hwy::GetChosenTarget().DeInit();
  return table;
}

}  // namespace

std::vector<std::string> AvailableTargets() {
  std::vector<std::string> names;
  if (HasBf16Target()) names.emplace_back(kBf16Target);
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    names.emplace_back(hwy::TargetName(target));
  }
  return names;
}

absl::StatusOr<KernelTable> SelectKernels(std::string_view target) {
  if (HasBf16Target() && (target.empty() || target == kBf16Target)) {
    return KernelsOf(HWY_AVX3, true);
  }
  for (const int64_t candidate : hwy::SupportedAndGeneratedTargets()) {
    if (target.empty() || target == hwy::TargetName(candidate)) return KernelsOf(candidate, false);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("CPU target \"", absl::string_view(target.data(), target.size()),
                   "\" is not one of ", absl::StrJoin(AvailableTargets(), ", ")));
}

}  // namespace mea::cpu
