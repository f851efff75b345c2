#include "server/load_report.h"

#include <array>
#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/ratio.h"
#include "xds/data/orca/v3/orca_load_report.pb.h"

namespace mea {
namespace {

constexpr char kReport[] = "endpoint-load-metrics";

using NamedMetrics = std::array<std::pair<const char*, double>, 4>;

NamedMetrics LoadOf(const Serving& serving) {
  const auto stats = serving.engine.stats();
  const double usage = Ratio(stats.kv.used_pages, stats.kv.num_pages);
  return {{{"kv_cache_utilization", usage},
           {"kv_cache_usage_perc", usage},
           {"num_requests_waiting", stats.num_waiting},
           {"num_requests_running", stats.num_running}}};
}

std::string AsText(const NamedMetrics& metrics) {
  std::string text = "TEXT ";
  for (const auto& [name, value] : metrics) {
    absl::StrAppend(&text, text.size() > 5 ? ", " : "", "named_metrics.", name, "=", value);
  }
  return text;
}

std::string AsJson(const NamedMetrics& metrics) {
  nlohmann::ordered_json named;
  for (const auto& [name, value] : metrics) named[name] = value;
  return "JSON " + nlohmann::ordered_json{{"named_metrics", named}}.dump();
}

std::string AsMessage(const NamedMetrics& metrics) {
  ::xds::data::orca::v3::OrcaLoadReport report;
  for (const auto& [name, value] : metrics) (*report.mutable_named_metrics())[name] = value;
  return report.SerializeAsString();
}

bool IsFormat(std::string_view text, std::string_view format) {
  return absl::EqualsIgnoreCase(absl::string_view(text.data(), text.size()),
                                absl::string_view(format.data(), format.size()));
}

}  // namespace

std::optional<std::pair<std::string, std::string>> LoadReport(std::string_view format,
                                                              const Serving& serving) {
  if (format.empty()) return std::nullopt;
  if (IsFormat(format, "TEXT")) return std::pair(kReport, AsText(LoadOf(serving)));
  if (IsFormat(format, "JSON")) return std::pair(kReport, AsJson(LoadOf(serving)));
  if (IsFormat(format, "BIN")) {
    return std::pair(absl::StrCat(kReport, "-bin"), AsMessage(LoadOf(serving)));
  }
  return std::nullopt;
}

std::optional<std::pair<std::string, std::string>> HttpLoadReport(std::string_view format,
                                                                  const Serving& serving) {
  auto report = LoadReport(format, serving);
  if (report && report->first.ends_with("-bin"))
    report->second = absl::Base64Escape(report->second);
  return report;
}

}  // namespace mea
