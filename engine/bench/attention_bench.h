#pragma once

#include <vector>

#include "engine/bench/engine_bench.h"

namespace mea {

// Times the attention op alone: one query per sequence for every batch and context of the options,
// then every chunk of one sequence after an empty cache and after each context. It cycles through
// so many copies of the cache that its bytes come from memory.
absl::StatusOr<std::vector<BenchRow>> BenchAttention(const ModelConfig& config,
                                                     const BenchOptions& options,
                                                     const BackendFactory& backends,
                                                     const RowObserver& observer = {});

}  // namespace mea
