#include "server/ready_line.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/human_bytes.h"

namespace mea {
namespace {

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
  if (plan.devices.size() < 2) return line;
  for (const DeviceShare& share : plan.devices) {
    absl::StrAppend(&line, "; GPU ", share.gpu, ": ", share.num_layers, " layers, weights ",
                    HumanBytes(share.weights_bytes), ", cache ", HumanBytes(share.kv_cache_bytes));
  }
  return line;
}

}  // namespace

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
