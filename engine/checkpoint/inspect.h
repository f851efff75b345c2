#pragma once

#include <string>

#include "engine/checkpoint/checkpoint.h"

namespace mea {

struct InspectOptions {
  KvDTypes kv_dtype = DType::kBf16;  // what the cache would store
  bool tensors = false;              // append one line per tensor
};

// What `mea inspect DIR` prints: architecture, parameters, heads per layer and cache bytes per
// token with and without compression. Lines end in newlines.
std::string InspectCheckpoint(const Checkpoint& checkpoint, const InspectOptions& options = {});

}  // namespace mea
