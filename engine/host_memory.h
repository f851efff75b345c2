#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "kernels/machine.h"

namespace mea {

// What the program takes beside its engine: tokenizer, grammars, requests in flight.
inline constexpr int64_t kProgramBytes = int64_t{128} << 20;

// An engine on the CPU, before anything of it is allocated.
struct HostMemoryNeed {
  int64_t weights_bytes = 0;  // mapped ones too: every step reads all of them
  int64_t workspace_bytes = 0;
  int64_t page_bytes = 0;    // of the KV cache
  int64_t wanted_bytes = 0;  // of a cache whose size nobody gave
  int64_t asked_bytes = 0;   // --kv-cache-bytes; 0: nobody gave it
};

// Bytes of the KV cache. Where nobody gave them: what is wanted, at most a quarter of the machine,
// so that others have room, and at most what the rest leaves of what is available.
// RESOURCE_EXHAUSTED where it does not fit, in one line with limit, need and flag: memory that is
// not there is found out by the kernel, which kills without a word.
absl::StatusOr<int64_t> FitKvCache(const HostMemoryNeed& need, const MachineLimits& machine);

}  // namespace mea
