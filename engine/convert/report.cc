#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "engine/convert/convert.h"

namespace mea::convert {
namespace {

// "1.23e-03", or a dash where nothing was composed.
std::string Error(int heads, int kv_heads, double error) {
  return heads == kv_heads && error == 0 ? "-" : absl::StrFormat("%.2e", error);
}

}  // namespace

std::string ReportTable(const ConvertReport& report) {
  std::string out = "layer   key heads  error      value heads  error      bytes per token\n";
  for (size_t i = 0; i < report.layers.size(); ++i) {
    const LayerResult& layer = report.layers[i];
    absl::StrAppendFormat(
        &out, "%5d  %3d of %-3d  %-9s    %3d of %-3d  %-9s  %15d\n", i, layer.key_heads,
        report.kv_heads, Error(layer.key_heads, report.kv_heads, layer.key_error),
        layer.value_heads, report.kv_heads,
        Error(layer.value_heads, report.kv_heads, layer.value_error), layer.bytes_per_token);
  }
  const double share = 100.0 * static_cast<double>(report.bytes_per_token_after) /
                       static_cast<double>(report.bytes_per_token_before);
  absl::StrAppendFormat(&out, "KV cache: %d of %d bytes per token (%.1f %%), method %s\n",
                        report.bytes_per_token_after, report.bytes_per_token_before, share,
                        report.method);
  if (report.loss_before && report.loss_after) {
    absl::StrAppendFormat(
        &out, "loss on the calibration text: %.4f -> %.4f nats per token (%+.4f)\n",
        *report.loss_before, *report.loss_after, *report.loss_after - *report.loss_before);
  }
  return out;
}

std::string ReportJson(const ConvertReport& report) {
  nlohmann::ordered_json json = {{"method", report.method},
                                 {"kv_heads", report.kv_heads},
                                 {"bytes_per_token_before", report.bytes_per_token_before},
                                 {"bytes_per_token_after", report.bytes_per_token_after}};
  if (report.loss_before) json["loss_before"] = *report.loss_before;
  if (report.loss_after) json["loss_after"] = *report.loss_after;
  json["layers"] = nlohmann::ordered_json::array();
  for (size_t i = 0; i < report.layers.size(); ++i) {
    const LayerResult& layer = report.layers[i];
    json["layers"].push_back({{"layer", i},
                              {"key_heads", layer.key_heads},
                              {"value_heads", layer.value_heads},
                              {"key_error", layer.key_error},
                              {"value_error", layer.value_error},
                              {"bytes_per_token", layer.bytes_per_token}});
  }
  if (report.profile.empty()) return json.dump(2) + "\n";
  json["profile"] = nlohmann::ordered_json::array();
  for (const ProfileEntry& entry : report.profile) {
    json["profile"].push_back({{"layer", entry.layer},
                               {"of", entry.of_keys ? "keys" : "values"},
                               {"heads", entry.heads},
                               {"loss_increase", entry.loss_increase}});
  }
  return json.dump(2) + "\n";
}

}  // namespace mea::convert
