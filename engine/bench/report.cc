#include "engine/bench/report.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/storage/output_file.h"
#include "kernels/cuda_module.h"
#include "kernels/machine.h"
#include "kernels/thread_plan.h"

namespace mea {
namespace {

nlohmann::ordered_json ToJson(const BenchRow& row) {
  nlohmann::ordered_json json = {
      {"bench", row.bench},     {"shape", row.shape},   {"system", row.system},
      {"storage", row.storage}, {"memory", row.memory}, {"batch", row.batch},
      {"context", row.context}, {"tokens", row.tokens}, {"cache_bytes", row.cache_bytes}};
  if (!row.skipped.empty()) {
    json["skipped"] = row.skipped;
    return json;
  }
  json["seconds"] = {{"median", row.seconds.median},
                     {"min", row.seconds.min},
                     {"max", row.seconds.max},
                     {"rounds", row.seconds.rounds}};
  json["tokens_per_second"] = row.tokens_per_second();
  json["bytes"] = row.cost.bytes;
  json["flops"] = row.cost.flops;
  // The rate for this row's flops, some of which may be faster than others.
  const double computing = row.computing_seconds();
  json["roofline"] = {
      {"bytes_per_second", row.roofline.bytes_per_second},
      {"flops_per_second", computing == 0 ? row.roofline.flops_per_second
                                          : static_cast<double>(row.cost.flops) / computing}};
  json["floor_seconds"] = row.floor_seconds();
  json["share_of_floor"] = row.share_of_floor();
  return json;
}

}  // namespace

double BenchRow::computing_seconds() const {
  const auto products = static_cast<double>(cost.product_flops);
  const auto others = static_cast<double>(cost.flops - cost.product_flops);
  double sum = others / roofline.flops_per_second;
  if (products > 0) sum += products / roofline.product_flops_per_second;
  return sum;
}

double BenchRow::floor_seconds() const {
  return std::max(static_cast<double>(cost.bytes) / roofline.bytes_per_second, computing_seconds());
}

BenchMachine DescribeMachine(Device device, int num_threads, int gpu) {
  if (num_threads == 0) num_threads = DefaultThreads();
  BenchMachine machine{.device = "cpu", .processor = ProcessorName(), .num_threads = num_threads};
  if (device == Device::kCuda) {
    const absl::StatusOr<CudaDeviceInfo> info = DescribeCudaDevice(gpu);
    machine.device = info.ok() ? info->name : "cuda";
    if (info.ok()) machine.driver = info->driver;
  }
  return machine;
}

std::string TableHead() {
  return absl::StrFormat("%-18s %-8s %6s %8s %6s %11s %21s %11s %8s %9s %6s", "bench", "storage",
                         "batch", "context", "rows", "median ms", "min..max ms", "tokens/s", "GB/s",
                         "GF/s", "floor");
}

std::string TableLine(const BenchRow& row) {
  const std::string where =
      absl::StrFormat("%-18s %-8s %6d %8d %6d ", row.bench,
                      row.memory.empty() ? row.storage : absl::StrCat(row.storage, "="), row.batch,
                      row.context, row.tokens);
  if (!row.skipped.empty()) return where + row.skipped;
  const Spread& t = row.seconds;
  return where + absl::StrFormat("%11.4f %10.4f..%9.4f %11.1f %8.1f %9.1f %5.1f%%", 1e3 * t.median,
                                 1e3 * t.min, 1e3 * t.max, row.tokens_per_second(),
                                 1e-9 * row.cost.bytes / t.median, 1e-9 * row.cost.flops / t.median,
                                 100 * row.share_of_floor());
}

nlohmann::ordered_json ToJson(const std::vector<BenchRow>& rows) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const BenchRow& row : rows) json.push_back(ToJson(row));
  return json;
}

absl::Status WriteJson(const std::string& file, const std::string& command,
                       const BenchMachine& machine, const std::vector<BenchRow>& rows) {
  nlohmann::ordered_json json = {
      {"command", command},
      {"date", absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::Now(), absl::UTCTimeZone())},
      {"machine",
       {{"device", machine.device},
        {"driver", machine.driver},
        {"processor", machine.processor},
        {"threads", machine.num_threads}}},
      {"results", ToJson(rows)}};
  return ReplaceFile(file, json.dump(1) + "\n");
}

}  // namespace mea
