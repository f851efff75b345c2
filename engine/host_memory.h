#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "kernels/machine.h"

namespace mea {

// Memory of the program in addition to its engine: tokenizer, grammars, requests in flight.
inline constexpr int64_t kProgramBytes = int64_t{128} << 20;

// The memory that an engine on the CPU needs, before anything is allocated.
struct HostMemoryNeed {
  int64_t weights_bytes = 0;  // mapped ones too: every step reads all of them
  int64_t workspace_bytes = 0;
  int64_t page_bytes = 0;    // of the KV cache
  int64_t wanted_bytes = 0;  // of a cache without a given size
  int64_t asked_bytes = 0;   // --kv-cache-bytes; 0: not given
};

// Bytes of the KV cache. If they were not given: what is wanted, at most a quarter of the machine
// (others need room too), and at most what the rest leaves of the available memory.
// RESOURCE_EXHAUSTED if it does not fit, in one line with limit, need and flag: otherwise the
// kernel would kill the process without a message.
absl::StatusOr<int64_t> FitKvCache(const HostMemoryNeed& need, const MachineLimits& machine);

}  // namespace mea
