#include "engine/bench/rounds.h"

#include <algorithm>

#include "kernels/status_macros.h"

namespace mea {
namespace {

constexpr int kWarmUpRuns = 3;  // the first allocates, the second makes a graph, the third repeats
constexpr int kMostRuns = 10000;

absl::StatusOr<double> TimeRuns(const Contender& contender, int count) {
  absl::Status status;
  const double seconds = SecondsOf([&] {
    for (int i = 0; i < count && status.ok(); ++i) status = contender.run();
  });
  MEA_RETURN_IF_ERROR(status);
  return seconds / count;
}

// How many runs last about as long as a round.
absl::StatusOr<int> WarmUp(const Contender& contender, double round_seconds) {
  double seconds = 0;
  for (int i = 0; i < kWarmUpRuns; ++i) {
    MEA_ASSIGN_OR_RETURN(seconds, TimeRuns(contender, 1));
    if (i == 0 && seconds > round_seconds) break;  // long runs need no more than one
  }
  return static_cast<int>(std::clamp<double>(round_seconds / seconds, 1, kMostRuns));
}

}  // namespace

absl::StatusOr<std::unique_ptr<RooflineMeter>> MakeMeter(const BenchOptions& options,
                                                         const BackendFactory& backends) {
  MEA_ASSIGN_OR_RETURN(std::unique_ptr<Backend> backend, backends());
  return CreateRooflineMeter(std::move(backend), options.roofline);
}

Roofline MediansOf(const std::vector<Roofline>& readings) {
  const auto median = [&](double Roofline::*rate) {
    std::vector<double> values;
    for (const Roofline& reading : readings) values.push_back(reading.*rate);
    return MedianOf(values);
  };
  return {.bytes_per_second = median(&Roofline::bytes_per_second),
          .flops_per_second = median(&Roofline::flops_per_second),
          .product_flops_per_second = median(&Roofline::product_flops_per_second)};
}

std::string BenchName(const std::string& bench, int tokens, const BenchOptions& options) {
  const std::string& kernel = tokens == 1 ? options.kernel : options.prefill_kernel;
  return kernel.empty() ? bench : bench + "/" + kernel;
}

absl::Status MeasureSideBySide(std::vector<Contender>& contenders, const BenchOptions& options,
                               RooflineMeter& meter) {
  std::vector<int> counts(contenders.size());
  std::vector<std::vector<double>> seconds(contenders.size());
  for (size_t i = 0; i < contenders.size(); ++i) {
    if (!contenders[i].row.skipped.empty()) continue;
    MEA_ASSIGN_OR_RETURN(counts[i], WarmUp(contenders[i], options.round_seconds));
  }
  std::vector<Roofline> readings;
  for (int round = 0; round < options.rounds; ++round) {
    MEA_ASSIGN_OR_RETURN(const Roofline roofline, meter.Read(contenders.front().weights));
    readings.push_back(roofline);
    for (size_t i = 0; i < contenders.size(); ++i) {
      if (counts[i] == 0) continue;
      MEA_ASSIGN_OR_RETURN(const double run, TimeRuns(contenders[i], counts[i]));
      seconds[i].push_back(run / contenders[i].runs_at_once);
    }
  }
  const Roofline medians = MediansOf(readings);
  for (size_t i = 0; i < contenders.size(); ++i) {
    if (counts[i] == 0) continue;
    contenders[i].row.seconds = SpreadOf(seconds[i]);
    contenders[i].row.roofline = medians;
  }
  return absl::OkStatus();
}

}  // namespace mea
