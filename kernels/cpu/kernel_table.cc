#include "kernels/cpu/kernel_table.h"

#include <hwy/highway.h>

#include <mutex>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/cpu/int8_matmul.h"

namespace mea::cpu {
namespace {

// Highway dispatches through a process-wide choice; hold it still while one table is filled. The
// thread sanitizer sees a std::mutex, and not Abseil's.
KernelTable KernelsOf(int64_t target) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  hwy::GetChosenTarget().Update(target);
  const KernelTable table = {
      .target = hwy::TargetName(target),
      .matmul = {.floats = GetFloatMatMulKernels(), .int8 = GetInt8MatMulKernels()},
      .rows = GetRowKernels(),
      .attention = GetAttentionKernels(),
      .interleaved_attention = GetInterleavedAttentionKernels()};
  hwy::GetChosenTarget().DeInit();
  return table;
}

}  // namespace

std::vector<std::string> AvailableTargets() {
  std::vector<std::string> names;
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    names.emplace_back(hwy::TargetName(target));
  }
  return names;
}

absl::StatusOr<KernelTable> SelectKernels(std::string_view target) {
  for (const int64_t candidate : hwy::SupportedAndGeneratedTargets()) {
    if (target.empty() || target == hwy::TargetName(candidate)) return KernelsOf(candidate);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("CPU target \"", absl::string_view(target.data(), target.size()),
                   "\" is not one of ", absl::StrJoin(AvailableTargets(), ", ")));
}

}  // namespace mea::cpu
