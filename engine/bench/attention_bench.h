#pragma once

#include <vector>

#include "engine/bench/engine_bench.h"

namespace mea {

// Times of the attention op alone: one query for each sequence, for every batch and context of the
// options, then every chunk of one sequence behind none and each context. It runs over as many
// copies of the cache as make its bytes come from memory.
absl::StatusOr<std::vector<BenchRow>> BenchAttention(const ModelConfig& config,
                                                     const BenchOptions& options,
                                                     const BackendFactory& backends,
                                                     const RowObserver& observer = {});

}  // namespace mea
