#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/bench/engine_bench.h"
#include "engine/bench/timing.h"
#include "kernels/roofline.h"

namespace mea {

// Of the machine that these back ends use.
absl::StatusOr<std::unique_ptr<RooflineMeter>> MakeMeter(const BenchOptions& options,
                                                         const BackendFactory& backends);

// The report's name: "decode", or "decode/wgmma" if a kernel was chosen for this number of query
// rows.
std::string BenchName(const std::string& bench, int tokens, const BenchOptions& options);

// One of several things that are timed together.
struct Contender {
  BenchRow row;                       // everything except the times; not run if skipped
  std::function<absl::Status()> run;  // waits for the device
  int runs_at_once = 1;               // how many of the row's steps one `run` does
  DType weights = DType::kF32;        // of its products
};

// Of at least one reading.
Roofline MediansOf(const std::vector<Roofline>& readings);

// Fills in seconds and the roofline: a few runs to warm up, then rounds in which the contenders run
// one after the other and the roofline is read once.
absl::Status MeasureSideBySide(std::vector<Contender>& contenders, const BenchOptions& options,
                               RooflineMeter& meter);

}  // namespace mea
