#include "server/access/access_metrics.h"

#include "absl/strings/ascii.h"
#include "server/family_writer.h"

namespace mea {

void AppendAccessMetrics(const Access& access, const std::string& model_name,
                         std::vector<prometheus::MetricFamily>& families) {
  using prometheus::MetricType;
  FamilyWriter out(model_name, families);
  const std::vector<KeyUsage> keys = access.usage();
  const auto of_each = [&](const char* name, MetricType type, const char* help,
                           int64_t KeyUsage::*value) {
    out.Family(name, type, help);
    for (const KeyUsage& key : keys) {
      out.Sample(static_cast<double>(key.*value), {{"key", key.name}});
    }
  };
  out.Counter("mea_unauthenticated_total", "Calls without a key that is known.",
              static_cast<double>(access.num_unauthenticated()));
  of_each("mea_key_requests_total", MetricType::Counter, "Requests for inference taken in.",
          &KeyUsage::num_requests);
  of_each("mea_key_requests_running", MetricType::Gauge, "Of these, under way.",
          &KeyUsage::num_running);
  of_each("mea_key_kv_cache_bytes", MetricType::Gauge,
          "Bytes of KV cache set aside for what is under way.", &KeyUsage::kv_cache_bytes);
  out.Family("mea_key_tokens_total", MetricType::Counter, "Tokens of requests that have ended.");
  for (const KeyUsage& key : keys) {
    out.Sample(static_cast<double>(key.prompt_tokens), {{"key", key.name}, {"kind", "prompt"}});
    out.Sample(static_cast<double>(key.completion_tokens),
               {{"key", key.name}, {"kind", "completion"}});
  }
  out.Family("mea_key_refused_total", MetricType::Counter,
             "Requests refused for a limit of their key, by reason.");
  for (const KeyUsage& key : keys) {
    for (size_t i = 0; i < kKeyLimitReasons.size(); ++i) {
      out.Sample(
          static_cast<double>(key.refused[i]),
          {{"key", key.name}, {"reason", absl::AsciiStrToLower(std::string(kKeyLimitReasons[i]))}});
    }
  }
}

}  // namespace mea
