#include "server/engine_metrics.h"

#include <string>
#include <utility>
#include <vector>

#include "server/family_writer.h"
#include "server/ratio.h"

namespace mea {
namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;

void AppendCache(const KvCacheStats& kv, const std::string& kv_dtype, FamilyWriter& out) {
  const double page_bytes = Ratio(kv.total_bytes, kv.num_pages);
  out.Family("mea_kv_cache_bytes", MetricType::Gauge, "Bytes of the KV cache, by state.");
  out.Sample(kv.used_bytes, {{"state", "used"}});
  out.Sample(kv.cached_bytes, {{"state", "cached"}});
  out.Sample(kv.free_pages * page_bytes, {{"state", "free"}});
  out.Gauge("mea_kv_cache_uncompressed_bytes",
            "Bytes that the used part of the KV cache would take with every virtual head in BF16.",
            kv.used_bytes_uncompressed);
  out.Family(
      "mea_kv_cache_bytes_per_token", MetricType::Gauge,
      "Bytes of one token: as stored (physical heads), and with every virtual head in BF16.");
  out.Sample(kv.bytes_per_token, {{"heads", "physical"}});
  out.Sample(kv.bytes_per_token_uncompressed, {{"heads", "virtual"}});
  out.Gauge("mea_kv_cache_compression_ratio", "Stored over uncompressed bytes of one token.",
            Ratio(kv.bytes_per_token, kv.bytes_per_token_uncompressed));
  out.Gauge("mea_kv_cache_usage_ratio", "Used pages over all pages, 0..1.",
            Ratio(kv.used_pages, kv.num_pages));
  out.Family("mea_kv_cache_pages", MetricType::Gauge, "Pages of the KV cache, by state.");
  out.Sample(kv.used_pages, {{"state", "used"}});
  out.Sample(kv.cached_pages, {{"state", "cached"}});
  out.Sample(kv.free_pages, {{"state", "free"}});
  out.Family("mea_cache_config_info", MetricType::Gauge, "The KV cache as configured; always 1.");
  out.Sample(1, {{"page_size", std::to_string(kv.page_size)},
                 {"num_pages", std::to_string(kv.num_pages)},
                 {"dtype", kv_dtype}});
}

void AppendMemory(const MemoryPlan& plan, const BackendCounters& device, FamilyWriter& out) {
  out.Family(
      "mea_memory_bytes", MetricType::Gauge,
      "Bytes by purpose: allocated at start, but for graphs, which the driver of a GPU keeps "
      "for each size of a decode step once it has been met.");
  out.Sample(plan.weights_bytes, {{"kind", "weights"}});
  out.Sample(plan.kv_cache_bytes, {{"kind", "kv_cache"}});
  out.Sample(plan.workspace_bytes, {{"kind", "workspace"}});
  out.Sample(plan.scratch_bytes, {{"kind", "scratch"}});
  out.Sample(device.graph_bytes, {{"kind", "graphs"}});
}

void AppendGpus(const std::vector<DeviceShare>& gpus, FamilyWriter& out) {
  if (gpus.empty()) return;
  out.Family("mea_gpu_memory_bytes", MetricType::Gauge,
             "Bytes of each GPU by purpose, as planned at start; graphs are an estimate.");
  for (const DeviceShare& share : gpus) {
    const std::string gpu = std::to_string(share.gpu);
    out.Sample(share.weights_bytes, {{"gpu", gpu}, {"kind", "weights"}});
    out.Sample(share.kv_cache_bytes, {{"gpu", gpu}, {"kind", "kv_cache"}});
    out.Sample(share.workspace_bytes, {{"gpu", gpu}, {"kind", "workspace"}});
    out.Sample(share.scratch_bytes, {{"gpu", gpu}, {"kind", "scratch"}});
    out.Sample(share.graphs_bytes, {{"gpu", gpu}, {"kind", "graphs"}});
  }
  out.Family("mea_gpu_layers", MetricType::Gauge, "Layers of the model on each GPU.");
  for (const DeviceShare& share : gpus) {
    out.Sample(share.num_layers, {{"gpu", std::to_string(share.gpu)}});
  }
}

// All zero on the CPU.
void AppendDevice(const BackendCounters& device, FamilyWriter& out) {
  out.Counter("mea_device_graph_replays_total", "Forward passes that launched a graph again.",
              device.graph_replays);
  out.Counter("mea_device_graph_captures_total", "Graphs made of forward passes.", device.graphs);
  out.Counter("mea_device_eager_runs_total",
              "Forward passes launched kernel by kernel: prompts, and sizes new to the device.",
              device.eager_runs);
  out.Counter("mea_device_step_allocations_total",
              "Allocations of device or pinned memory since serving began, of which a step makes "
              "none.",
              device.allocations);
}

}  // namespace

void AppendEngineMetrics(const Engine& engine, const std::string& model_name,
                         std::vector<MetricFamily>& families) {
  FamilyWriter out(model_name, families);
  const EngineStats stats = engine.stats();
  const MemoryPlan plan = engine.memory_plan();

  AppendCache(stats.kv, engine.options().kv_dtype, out);
  AppendMemory(plan, stats.device, out);
  AppendGpus(plan.devices, out);
  AppendDevice(stats.device, out);
  out.Gauge("mea_num_requests_running", "Requests being computed.", stats.num_running);
  out.Gauge("mea_num_requests_waiting", "Requests that wait for their turn.", stats.num_waiting);
  out.Gauge("mea_num_tokens_waiting", "Tokens of the prompts that wait for their turn.",
            stats.num_waiting_tokens);
  out.Counter("mea_num_preemptions_total",
              "Times that a request was set back to give its pages to another.",
              stats.num_preemptions);
  out.Counter("mea_prefix_cache_queries_total", "Tokens looked up in the prefix cache.",
              stats.kv.prefix_queries);
  out.Counter("mea_prefix_cache_hits_total", "Tokens found there.", stats.kv.prefix_hits);
  out.Counter("mea_prompt_tokens_total", "Prompt tokens computed.", stats.prompt_tokens);
  out.Counter("mea_generation_tokens_total", "Tokens drawn.", stats.generation_tokens);
}

void AppendVllmCacheConfig(const Engine& engine, const std::string& model_name,
                           std::vector<MetricFamily>& families) {
  FamilyWriter out(model_name, families);
  const KvCacheStats kv = engine.stats().kv;
  out.Family("vllm:cache_config_info", MetricType::Gauge, "The KV cache as configured; always 1.");
  out.Sample(1, {{"block_size", std::to_string(kv.page_size)},
                 {"num_gpu_blocks", std::to_string(kv.num_pages)}});
}

}  // namespace mea
