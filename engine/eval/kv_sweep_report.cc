#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "engine/eval/kv_sweep.h"

namespace mea {
namespace {

nlohmann::ordered_json NeedlesJson(std::span<const NeedleScore> needles) {
  auto json = nlohmann::ordered_json::array();
  for (const NeedleScore& score : needles) {
    json.push_back({{"tokens", score.tokens},
                    {"answers", score.answers},
                    {"right", score.right},
                    {"nats_per_answer", score.nats_per_answer()}});
  }
  return json;
}

}  // namespace

std::string KvSweepTable(const KvSweep& sweep) {
  const KvSweepRow& reference = sweep.rows.front();
  std::string out = absl::StrFormat(
      "loss of the first row %.4f nats per token of %d; the others are compared with it\n"
      "%-18s %22s %9s %10s %7s %16s",
      reference.divergence.loss, sweep.tokens, "cache", "bytes per token", "loss", "KL", "top 1",
      "greedy, equal");
  for (const NeedleScore& score : reference.needles) {
    absl::StrAppendFormat(&out, "  %20s", absl::StrFormat("needles in %d", score.tokens));
  }
  out += "\n";
  for (const KvSweepRow& row : sweep.rows) {
    absl::StrAppendFormat(
        &out, "%-18s %12d (%5.1f %%) %+9.4f %10.6f %5.1f %% %5.1f of %3d, %2.0f %%",
        row.is_reference ? "reference, " + row.cache : row.cache, row.bytes_per_token,
        100 * row.share, row.divergence.loss - reference.divergence.loss, row.divergence.kl,
        100 * row.divergence.top1, row.greedy.equal_prefix, row.greedy.tokens,
        100 * row.greedy.equal);
    for (const NeedleScore& score : row.needles) {
      absl::StrAppendFormat(&out, "  %2d of %2d, %5.2f nats", score.right, score.answers,
                            score.nats_per_answer());
    }
    out += "\n";
  }
  return out;
}

std::string KvSweepJson(const KvSweep& sweep, const KvSweepOptions& options) {
  const std::string model = options.model.string();
  const std::string reference = options.reference.empty() ? model : options.reference.string();
  nlohmann::ordered_json json = {{"model", model},
                                 {"reference", reference},
                                 {"tokens", sweep.tokens},
                                 {"rows", nlohmann::ordered_json::array()}};
  const double loss = sweep.rows.front().divergence.loss;
  for (const KvSweepRow& row : sweep.rows) {
    json["rows"].push_back({{"model", row.is_reference ? reference : model},
                            {"cache", row.cache},
                            {"bytes_per_token", row.bytes_per_token},
                            {"share", row.share},
                            {"loss", row.divergence.loss},
                            {"loss_increase", row.divergence.loss - loss},
                            {"kl", row.divergence.kl},
                            {"top1", row.divergence.top1},
                            {"greedy",
                             {{"continuations", row.greedy.continuations},
                              {"tokens", row.greedy.tokens},
                              {"equal_prefix", row.greedy.equal_prefix},
                              {"equal", row.greedy.equal}}},
                            {"needles", NeedlesJson(row.needles)}});
  }
  return json.dump(2) + "\n";
}

}  // namespace mea
