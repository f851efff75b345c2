#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/convert/convert.h"
#include "engine/convert/problems.h"
#include "engine/convert/work_dir.h"

namespace mea::convert {

// Numbers of component heads to compose one layer's keys, or its values, of.
struct SolveTask {
  int layer = 0;
  bool of_keys = false;
  std::vector<int> heads;
};

// "layer-3.keys-4": the name under which results are kept.
std::string ResultName(int layer, bool of_keys, int heads);

// Composes what is not in `work` yet, and keeps it there with its error (Measured: ResultName +
// ".error"). Tasks run in parallel; results do not depend on that. `statistics` is called for as
// many layers at a time as fit into options.statistics_bytes, but not for finished ones; null: only
// the weights count.
using StatisticsSource = std::function<absl::StatusOr<LayerStatistics>(std::span<const int>)>;
absl::Status Solve(const Checkpoint& checkpoint, const ConvertOptions& options,
                   std::vector<SolveTask> tasks, const StatisticsSource& statistics, WorkDir& work);

}  // namespace mea::convert
