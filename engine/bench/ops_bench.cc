#include "engine/bench/ops_bench.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "engine/bench/op_meter.h"
#include "engine/bench/rounds.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

constexpr char kOncePerStep[] = "Embed";

// The measurements of one kind of op, by round.
struct OpRounds {
  std::vector<double> seconds;  // per step
  OpCost cost;                  // per step
};

BenchRow RowOf(const std::string& kind, OpRounds rounds, const BenchRow& step) {
  BenchRow row = step;
  row.bench = kind;
  row.seconds = SpreadOf(std::move(rounds.seconds));
  row.cost = rounds.cost;
  return row;
}

// Rounds of one point: a row for each kind of op. `meter` is the back end of the bench's model.
absl::StatusOr<std::vector<BenchRow>> MeasureOps(EngineBench& bench, const StepPoint& point,
                                                 int num_rounds, OpMeter& meter) {
  std::map<std::string, OpRounds> ops;
  std::vector<Roofline> readings;
  BenchRow step;
  for (int round = 0; round < num_rounds; ++round) {
    meter.Reset();
    MEA_ASSIGN_OR_RETURN(std::vector<BenchRow> steps, bench.Measure(point));
    step = steps.front();
    if (!step.skipped.empty()) return std::vector<BenchRow>{step};
    const auto num_steps = meter.totals().at(kOncePerStep).calls;
    for (const auto& [kind, total] : meter.totals()) {
      ops[kind].seconds.push_back(total.seconds / static_cast<double>(num_steps));
      ops[kind].cost = {.bytes = total.cost.bytes / num_steps,
                        .flops = total.cost.flops / num_steps,
                        .product_flops = total.cost.product_flops / num_steps};
    }
    readings.push_back(step.roofline);
  }
  step.roofline = MediansOf(readings);
  std::vector<BenchRow> rows;
  for (auto& [kind, rounds] : ops) rows.push_back(RowOf(kind, std::move(rounds), step));
  std::ranges::sort(rows, std::greater(), [](const BenchRow& row) { return row.seconds.median; });
  return rows;
}

}  // namespace

absl::StatusOr<std::vector<BenchRow>> BenchOps(const ModelConfig& config,
                                               const EngineBenchOptions& options,
                                               const BackendFactory& backends,
                                               const WeightsSource& weights,
                                               const RowObserver& observer) {
  if (options.storages.size() != 1) {
    return absl::InvalidArgumentError("ops are timed of one storage at a time");
  }
  EngineBenchOptions one_round = options;
  one_round.rounds = 1;
  OpMeter* meter = nullptr;  // of the back end made last, which is the model's
  const auto metered = [&]() -> absl::StatusOr<std::unique_ptr<Backend>> {
    MEA_ASSIGN_OR_RETURN(std::unique_ptr<Backend> backend, backends());
    if (backend->device() != Device::kCpu) {
      return absl::InvalidArgumentError("ops are timed one by one on the CPU alone");
    }
    auto timed = std::make_unique<OpMeter>();
    meter = timed.get();
    backend->set_observer(std::move(timed));
    return backend;
  };
  MEA_ASSIGN_OR_RETURN(const auto bench, EngineBench::Create(config, one_round, metered, weights));
  std::vector<BenchRow> rows;
  for (const StepPoint& point : bench->points()) {
    MEA_ASSIGN_OR_RETURN(std::vector<BenchRow> ops,
                         MeasureOps(*bench, point, options.rounds, *meter));
    for (BenchRow& row : ops) {
      if (observer) observer(row);
      rows.push_back(std::move(row));
    }
  }
  return rows;
}

}  // namespace mea
