#include "engine/host_memory.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kernels/human_bytes.h"

namespace mea {
namespace {

std::string Available(const MachineLimits& machine) {
  return absl::StrCat(HumanBytes(machine.available_bytes), " available (", machine.memory_source,
                      ": ", HumanBytes(machine.memory_bytes), ")");
}

}  // namespace

absl::StatusOr<int64_t> FitKvCache(const HostMemoryNeed& need, const MachineLimits& machine) {
  const int64_t rest = need.weights_bytes + need.workspace_bytes + kProgramBytes;
  const int64_t room = machine.available_bytes - rest;
  const std::string parts = absl::StrCat("weights of ", HumanBytes(need.weights_bytes),
                                         ", a workspace of ", HumanBytes(need.workspace_bytes),
                                         " and ", HumanBytes(kProgramBytes), " for the program");
  if (need.asked_bytes > 0) {
    if (need.asked_bytes <= room) return need.asked_bytes;
    return absl::ResourceExhaustedError(absl::StrCat("--kv-cache-bytes ",
                                                     HumanBytes(need.asked_bytes), " beside ",
                                                     parts, " exceeds the ", Available(machine)));
  }
  if (room < need.page_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat(parts, " leave none of the ", Available(machine),
                     " for the KV cache; see --weight-dtype, --max-batch-tokens"));
  }
  return std::max(std::min({need.wanted_bytes, machine.memory_bytes / 4, room}), need.page_bytes);
}

}  // namespace mea
