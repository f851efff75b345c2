#include "server/status_page.h"

#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "kernels/human_bytes.h"
#include "server/build_info.h"

namespace mea {
namespace {

std::string Escape(const std::string& text) {
  return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}});
}

void Row(const std::string& name, const std::string& value, std::string& page) {
  absl::StrAppend(&page, "<tr><th>", name, "</th><td>", Escape(value), "</td></tr>\n");
}

std::string HeadsLine(const ModelConfig& config) {
  int64_t cached = 0;
  for (const LayerHeads& heads : config.layer_heads) cached += heads.key_heads + heads.value_heads;
  return absl::StrFormat("%d key and value heads cached of %d attended", cached,
                         int64_t{2} * config.kv_heads * config.num_layers);
}

std::string MemoryLine(const MemoryPlan& plan) {
  return absl::StrFormat("%s (%s uncompressed, ratio %.3f)", HumanBytes(plan.kv_cache_bytes),
                         HumanBytes(plan.kv_cache_bytes_uncompressed),
                         plan.kv_cache_bytes_uncompressed == 0
                             ? 1.0
                             : static_cast<double>(plan.kv_cache_bytes) /
                                   static_cast<double>(plan.kv_cache_bytes_uncompressed));
}

// Memory outside of the cache.
std::string OtherMemoryLine(const MemoryPlan& plan) {
  std::string line = absl::StrFormat("weights %s, workspace %s", HumanBytes(plan.weights_bytes),
                                     HumanBytes(plan.workspace_bytes));
  if (plan.scratch_bytes > 0) {
    absl::StrAppend(&line, ", scratch ", HumanBytes(plan.scratch_bytes), ", set aside for graphs ",
                    HumanBytes(plan.graphs_bytes));
  }
  return line;
}

std::string DeviceLine(const BackendCounters& device) {
  return absl::StrFormat("%d graph replays, %d eager runs, %d graphs of %s in all",
                         device.graph_replays, device.eager_runs, device.graphs,
                         HumanBytes(device.graph_bytes));
}

}  // namespace

std::string StatusPage(const Serving& serving) {
  const EngineStats stats = serving.engine.stats();
  const KvCacheStats& kv = stats.kv;
  const ModelConfig& config = serving.engine.config();
  std::string page =
      "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" "
      "content=\"5\"><title>mea</title><style>body{font:16px system-ui;margin:2em}th{text-align:"
      "left;padding-right:2em;font-weight:600}td,th{padding-bottom:.4em}</style>\n<h1>mea</h1>\n"
      "<table>\n";
  Row("Model", serving.model_name, page);
  Row("State", std::string(ServingStateName(serving.readiness.state())), page);
  Row("Heads", HeadsLine(config), page);
  Row("Cache memory", MemoryLine(serving.engine.memory_plan()), page);
  Row("Other memory", OtherMemoryLine(serving.engine.memory_plan()), page);
  Row("Cache per token",
      absl::StrFormat("%s (%s uncompressed)", HumanBytes(kv.bytes_per_token),
                      HumanBytes(kv.bytes_per_token_uncompressed)),
      page);
  Row("Cache in use",
      absl::StrFormat("%s of %s, %d of %d pages", HumanBytes(kv.used_bytes),
                      HumanBytes(kv.total_bytes), kv.used_pages, kv.num_pages),
      page);
  Row("Requests", absl::StrFormat("%d running, %d waiting", stats.num_running, stats.num_waiting),
      page);
  Row("Tokens",
      absl::StrFormat("%d prompt, %d drawn", stats.prompt_tokens, stats.generation_tokens), page);
  if (serving.engine.options().device != "cpu") Row("Device", DeviceLine(stats.device), page);
  Row("Since", absl::FormatTime("%Y-%m-%d %H:%M:%S UTC", serving.start_time, absl::UTCTimeZone()),
      page);
  Row("Version", absl::StrCat(Version(), ", ", Build()), page);
  absl::StrAppend(&page,
                  "</table>\n<p><a href=\"/metrics\">metrics</a>, "
                  "<a href=\"/health\">health</a></p>\n</html>\n");
  return page;
}

std::string ReadyLine(const Serving& serving, const std::string& listen, const std::string& admin,
                      const std::string& http, bool has_tls) {
  const KvCacheStats kv = serving.engine.stats().kv;
  const MemoryPlan plan = serving.engine.memory_plan();
  const int context = serving.engine.max_context();
  const auto url = [&](const std::string& address, const char* path) {
    return address.empty() ? "off" : absl::StrCat(has_tls ? "https://" : "http://", address, path);
  };
  return absl::StrFormat(
      "serving %s: gRPC %s, OpenAI API %s, metrics %s; KV cache %s, room for %d tokens or %d "
      "sequences of %d; %s",
      serving.model_name, listen.empty() ? "off" : listen, url(http, "/v1"), url(admin, "/metrics"),
      MemoryLine(plan), kv.max_tokens, plan.max_sequences, context, OtherMemoryLine(plan));
}

}  // namespace mea
