#pragma once

#include <vector>

#include "engine/bench/engine_bench.h"

namespace mea {

// Where the time of a step goes: for every point of the options one row per kind of op, with all
// its calls in one step and their least cost, the longest first. Only on the host, where an op is
// done when it returns; INVALID_ARGUMENT for other back ends and for twins.
absl::StatusOr<std::vector<BenchRow>> BenchOps(const ModelConfig& config,
                                               const EngineBenchOptions& options,
                                               const BackendFactory& backends,
                                               const WeightsSource& weights,
                                               const RowObserver& observer = {});

}  // namespace mea
