#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/bench/engine_bench.h"
#include "engine/bench/timing.h"
#include "kernels/ceilings.h"

namespace mea {

// Of the machine that these back ends use.
absl::StatusOr<std::unique_ptr<CeilingMeter>> MakeMeter(const BenchOptions& options,
                                                        const BackendFactory& backends);

// "decode", or "decode/wgmma" where a kernel is chosen for so many query rows of a sequence: the
// report's name for it.
std::string BenchName(const std::string& bench, int tokens, const BenchOptions& options);

// One of several things that are timed side by side.
struct Contender {
  BenchRow row;                       // everything but the times; nothing is run where skipped
  std::function<absl::Status()> run;  // waits for the device
  int runs_at_once = 1;               // how many of what the row describes one `run` does
};

// Fills in seconds and ceilings: a few runs to warm up, then rounds in which every contender runs
// in turn and the machine's ceilings are read once.
absl::Status MeasureSideBySide(std::vector<Contender>& contenders, const BenchOptions& options,
                               CeilingMeter& meter);

}  // namespace mea
