#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/str_format.h"
#include "engine/convert/convert.h"

namespace mea::convert {
namespace {

// "1.23e-03", or a dash where nothing was composed.
std::string Error(int heads, int kv_heads, double error) {
  return heads == kv_heads && error == 0 ? "-" : absl::StrFormat("%.2e", error);
}

// The worst of all mixes, or nothing where there is none.
std::optional<MixForm> WorstForm(const ConvertReport& report) {
  std::optional<MixForm> worst;
  for (const LayerResult& layer : report.layers) {
    for (const std::optional<MixForm>& form : {layer.key_mix, layer.value_mix}) {
      if (!form) continue;
      if (!worst) worst = MixForm();
      worst->largest_entry = std::max(worst->largest_entry, form->largest_entry);
      worst->condition = std::max(worst->condition, form->condition);
    }
  }
  return worst;
}

// An infinite condition is null in JSON.
nlohmann::ordered_json FormJson(const std::optional<MixForm>& form) {
  if (!form) return nullptr;
  return {{"largest_entry", form->largest_entry}, {"condition", form->condition}};
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
  if (const std::optional<MixForm> form = WorstForm(report)) {
    absl::StrAppendFormat(&out,
                          "components are heads, mixes in pivot form: entries up to %.3f, "
                          "change of basis with condition up to %.3g\n",
                          form->largest_entry, form->condition);
  }
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
                              {"key_mix", FormJson(layer.key_mix)},
                              {"value_mix", FormJson(layer.value_mix)},
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
