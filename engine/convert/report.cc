#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>

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

double Percent(int64_t part, int64_t whole) {
  return 100.0 * static_cast<double>(part) / static_cast<double>(whole);
}

std::string JudgementTable(const Judgement& judgement, int64_t whole_bytes) {
  std::string out = absl::StrFormat(
      "%d tokens%s, loss of the plain model %.4f nats per token:\n"
      "%-32s  bytes per token          loss   KL divergence   same top 1\n",
      judgement.num_tokens, judgement.is_apart ? " held out" : " that were also learned from",
      judgement.plain_loss, "cache");
  for (const CacheChoice& choice : judgement.choices) {
    absl::StrAppendFormat(&out, "%-32s %8d (%5.1f %%)      %+.4f          %.4f      %6.1f %%\n",
                          choice.name, choice.bytes_per_token,
                          Percent(choice.bytes_per_token, whole_bytes), choice.loss_increase,
                          choice.kl, 100 * choice.top1);
  }
  return out;
}

nlohmann::ordered_json JudgementJson(const Judgement& judgement) {
  nlohmann::ordered_json json = {{"tokens", judgement.num_tokens},
                                 {"apart", judgement.is_apart},
                                 {"plain_loss", judgement.plain_loss},
                                 {"choices", nlohmann::ordered_json::array()}};
  for (const CacheChoice& choice : judgement.choices) {
    json["choices"].push_back({{"cache", choice.name},
                               {"bytes_per_token", choice.bytes_per_token},
                               {"loss_increase", choice.loss_increase},
                               {"kl", choice.kl},
                               {"top1", choice.top1}});
  }
  return json;
}

// An infinite condition is null in JSON.
nlohmann::ordered_json FormJson(const std::optional<MixForm>& form) {
  if (!form) return nullptr;
  return {{"largest_entry", form->largest_entry}, {"condition", form->condition}};
}

}  // namespace

absl::Status Verdict(const ConvertReport& report, const ConvertOptions& options) {
  if (!report.judgement) return absl::OkStatus();
  const CacheChoice& converted = report.judgement->choices.front();
  // Not a number is no acceptable loss.
  if (converted.loss_increase <= options.accept_loss) return absl::OkStatus();
  const int64_t whole = report.bytes_per_token_before;
  std::string alternatives;
  for (const CacheChoice& choice : std::span(report.judgement->choices).subspan(1)) {
    absl::StrAppendFormat(&alternatives, "serve IN with the %s (%.1f %% of the bytes, %+.4f), ",
                          choice.name, Percent(choice.bytes_per_token, whole),
                          choice.loss_increase);
  }
  return absl::FailedPreconditionError(absl::StrFormat(
      "%s: not published: on held-out text the loss rises by %.4f nats per token (KL divergence "
      "%.4f, same top 1 %.1f %%) at %.1f %% of the bytes, more than --accept-loss %g; %s"
      "keep more with --ratio, or take it: --accept-loss goes on from %s.partial",
      options.out.string(), converted.loss_increase, converted.kl, 100 * converted.top1,
      Percent(converted.bytes_per_token, whole), options.accept_loss, alternatives,
      options.out.string()));
}

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
  const double share = Percent(report.bytes_per_token_after, report.bytes_per_token_before);
  absl::StrAppendFormat(&out, "KV cache: %d of %d bytes per token (%.1f %%), method %s\n",
                        report.bytes_per_token_after, report.bytes_per_token_before, share,
                        report.method);
  if (const std::optional<MixForm> form = WorstForm(report)) {
    absl::StrAppendFormat(&out,
                          "components are heads, mixes in pivot form: entries up to %.3f, "
                          "change of basis with condition up to %.3g\n",
                          form->largest_entry, form->condition);
  }
  if (report.healing) {
    absl::StrAppendFormat(&out, "healed %d layers%s; hidden states are %.2g of their energy away\n",
                          report.healing->layers,
                          report.healing->layers_with_experts == 0
                              ? std::string()
                              : absl::StrFormat(" (the experts of %d left alone)",
                                                report.healing->layers_with_experts),
                          report.healing->distance);
  }
  if (report.judgement) out += JudgementTable(*report.judgement, report.bytes_per_token_before);
  return out;
}

std::string ReportJson(const ConvertReport& report) {
  nlohmann::ordered_json json = {{"method", report.method},
                                 {"kv_heads", report.kv_heads},
                                 {"bytes_per_token_before", report.bytes_per_token_before},
                                 {"bytes_per_token_after", report.bytes_per_token_after}};
  json["published"] = report.published;
  if (report.healing) {
    json["healing"] = {{"layers", report.healing->layers},
                       {"layers_with_experts", report.healing->layers_with_experts},
                       {"distance", report.healing->distance}};
  }
  if (report.judgement) json["held_out"] = JudgementJson(*report.judgement);
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
                               {"loss_increase", entry.loss_increase},
                               {"kl", entry.kl}});
  }
  return json.dump(2) + "\n";
}

}  // namespace mea::convert
