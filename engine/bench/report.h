#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/bench/timing.h"
#include "kernels/cost.h"
#include "kernels/dtype.h"
#include "kernels/roofline.h"

namespace mea {

// One measured point. tools/bench_table reads this JSON and that of other engines, so every field
// has its name there.
struct BenchRow {
  std::string bench;        // "decode", "prefill", "attention", "attention/wgmma" or an op
  std::string shape;        // name of the configuration's directory
  std::string system;       // "mea", or the name of another engine
  std::string storage;      // of the heads: "mea", "one-hot", "plain"
  std::string memory;       // "equal": as many sequences as a given cache holds; else empty
  int batch = 0;            // sequences
  int context = 0;          // tokens that the last row sees, itself included
  int tokens = 0;           // rows computed for each sequence
  int64_t cache_bytes = 0;  // that these sequences occupy
  Spread seconds;           // of one step, or of one op
  OpCost cost;
  Roofline roofline;    // medians of the same rounds
  std::string skipped;  // why there is no measurement, or empty

  double tokens_per_second() const { return batch * double(tokens) / seconds.median; }
  // The least time of the flops under this roofline.
  double computing_seconds() const;
  // The least time under this roofline: for moving the bytes or computing the flops.
  double floor_seconds() const;
  double share_of_floor() const { return floor_seconds() / seconds.median; }
};

// Where and with what a report was made.
struct BenchMachine {
  std::string device;  // "cpu", or the name of the GPU
  std::string driver;  // of a GPU
  std::string processor;
  int num_threads = 0;
};
// `num_threads` of the CPU back end, 0 = DefaultThreads().
BenchMachine DescribeMachine(Device device, int num_threads, int gpu = 0);

std::string TableHead();
std::string TableLine(const BenchRow& row);

// [{...}, ...], the results of such a report.
nlohmann::ordered_json ToJson(const std::vector<BenchRow>& rows);

// {"command", "date", "machine", "results": [...]}
absl::Status WriteJson(const std::string& file, const std::string& command,
                       const BenchMachine& machine, const std::vector<BenchRow>& rows);

}  // namespace mea
