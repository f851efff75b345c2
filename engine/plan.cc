#include "engine/plan.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/device.h"
#include "engine/host_memory.h"
#include "engine/load.h"
#include "engine/model/cache_layout.h"
#include "engine/model/model_weights.h"
#include "kernels/status_macros.h"
#include "kvcache/kv_layout.h"

namespace mea {
namespace {

// An H100 or H200: the two numbers that scratch memory depends on.
const CudaDeviceInfo kAssumedDevice = {.sm = 90, .num_sms = 132};

CachePlan PlanCache(int64_t bytes, int64_t bytes_per_token, int64_t page_bytes,
                    const KvLayout& layout, int context) {
  const int64_t num_pages = NumPages(page_bytes, layout.page_size, bytes);
  return {.bytes_per_token = bytes_per_token,
          .num_tokens = num_pages / layout.num_groups() * layout.page_size,
          .num_sequences = num_pages / layout.PagesFor(context)};
}

// As an engine would take it on a host that nothing else uses.
absl::StatusOr<int64_t> DefaultCacheBytes(const Plan& plan, const KvLayout& layout,
                                          const PlanOptions& options) {
  if (options.device.device == Device::kCpu) {
    return FitKvCache({.weights_bytes = plan.weights_bytes,
                       .workspace_bytes = plan.workspace_bytes,
                       .page_bytes = layout.PageBytes(),
                       .wanted_bytes = layout.PagesFor(plan.context) * options.limits.max_num_seqs *
                                       layout.PageBytes()},
                      {.memory_bytes = options.memory_bytes,
                       .memory_source = "memory",
                       .available_bytes = options.memory_bytes});
  }
  if (plan.cache_bytes >= layout.PageBytes()) return plan.cache_bytes;
  return absl::ResourceExhaustedError(absl::StrCat(
      "weights of ", plan.weights_bytes, " bytes, a workspace of ", plan.workspace_bytes,
      ", scratch of ", plan.scratch_bytes, " and graphs of ", plan.graphs_bytes,
      " leave none of the ", options.memory_bytes, " bytes for the KV cache"));
}

// What each device has, and the pages of the cache that then fit.
struct Shares {
  std::vector<StageBytes> bytes;
  std::vector<LayerRange> layers;
  int64_t num_pages = std::numeric_limits<int64_t>::max();
};

absl::StatusOr<Shares> ShareOut(const StageCosts& costs, int64_t memory_bytes, int num_devices) {
  const std::vector<int64_t> each(num_devices, memory_bytes / num_devices);
  Shares shares;
  MEA_ASSIGN_OR_RETURN(shares.layers, SplitLayers(costs, each));
  for (const LayerRange& layers : shares.layers) {
    MEA_ASSIGN_OR_RETURN(shares.bytes.emplace_back(), costs.Of(layers));
    shares.num_pages = std::min(shares.num_pages, shares.bytes.back().NumPages(each[0]));
  }
  shares.num_pages = std::max<int64_t>(shares.num_pages, 0);
  return shares;
}

// `weight_bytes` returns the bytes of layers' weights for matrices of a dtype (absent: as stored).
template <typename WeightBytes>
absl::StatusOr<Plan> PlanModel(ModelConfig config, const PlanOptions& options,
                               const WeightBytes& weight_bytes) {
  MEA_RETURN_IF_ERROR(SetContext("--context", options.context, config));
  const PlannedDevice& device = options.device;
  const auto num_devices = static_cast<int>(device.gpus.size());
  const DeviceDefaults& defaults = DefaultsOf(device.device);
  MEA_ASSIGN_OR_RETURN(
      const auto weight_dtype,
      WeightDTypeFor(options.weight_dtype,
                     defaults.bf16_only ? std::optional(DType::kBf16) : std::nullopt));
  MEA_ASSIGN_OR_RETURN(const KvDTypes kv_dtype, ParseKvDType(options.kv_dtype, device.device));
  MEA_RETURN_IF_ERROR(CheckKvDType(config, kv_dtype, device.device));
  ModelLimits limits = options.limits;
  limits.kv_dtype = kv_dtype;
  // A program without the module can still report the rest.
  std::string missing;
  const BackendPlanner backend_bytes =
      [&](const BackendLimits& backend_limits) -> absl::StatusOr<BackendBytes> {
    absl::StatusOr<BackendBytes> bytes = device.backend_bytes(backend_limits);
    if (!absl::IsNotFound(bytes.status())) return bytes;
    missing = std::string(bytes.status().message());
    return BackendBytes{};
  };
  const StageCosts costs(
      config, limits, kv_dtype, device.device,
      [&](LayerRange layers) { return weight_bytes(layers, weight_dtype); },
      device.backend_bytes ? backend_bytes : BackendPlanner());
  MEA_ASSIGN_OR_RETURN(const Shares shares, ShareOut(costs, options.memory_bytes, num_devices));

  Plan plan{.missing = missing, .context = config.max_position};
  for (size_t i = 0; i < shares.bytes.size(); ++i) {
    const StageBytes& bytes = shares.bytes[i];
    plan.weights_bytes += bytes.weights;
    plan.workspace_bytes += bytes.workspace;
    plan.scratch_bytes += bytes.backend.scratch;
    plan.graphs_bytes += bytes.backend.graphs;
    if (num_devices == 1) continue;
    plan.devices.push_back({.gpu = device.gpus[i],
                            .num_layers = shares.layers[i].size(),
                            .weights_bytes = bytes.weights,
                            .kv_cache_bytes = shares.num_pages * bytes.page,
                            .workspace_bytes = bytes.workspace,
                            .scratch_bytes = bytes.backend.scratch,
                            .graphs_bytes = bytes.backend.graphs});
    plan.cache_bytes += plan.devices.back().kv_cache_bytes;
  }
  if (num_devices == 1) {
    plan.cache_bytes = std::max<int64_t>(options.memory_bytes - shares.bytes[0].fixed(), 0);
  }
  KvLayout layout = MakeKvLayout(config, kv_dtype, limits);
  PutOnRanks(shares.layers, layout);
  const absl::StatusOr<int64_t> by_default = DefaultCacheBytes(plan, layout, options);
  plan.default_cache_bytes = by_default.value_or(0);
  plan.refusal = by_default.status();
  plan.physical =
      PlanCache(plan.cache_bytes, layout.BytesPerToken(), layout.PageBytes(), layout, plan.context);
  plan.uncompressed = PlanCache(plan.cache_bytes, layout.UncompressedBytesPerToken(),
                                layout.UncompressedPageBytes(), layout, plan.context);
  plan.by_default = PlanCache(plan.default_cache_bytes, layout.BytesPerToken(), layout.PageBytes(),
                              layout, plan.context);
  return plan;
}

}  // namespace

absl::StatusOr<PlannedDevice> DescribePlannedDevice(const std::string& device) {
  MEA_ASSIGN_OR_RETURN(const DeviceChoice choice, ParseDevice(device));
  if (choice.kind == "cpu") return PlannedDevice{};
  const absl::StatusOr<CudaDeviceInfo> found = DescribeCudaDevice(choice.gpus[0]);
  if (choice.kind == "auto" && !found.ok()) return PlannedDevice{};
  const CudaDeviceInfo info = found.value_or(kAssumedDevice);
  return PlannedDevice{.device = Device::kCuda,
                       .gpus = choice.gpus,
                       .name = info.name,
                       .total_bytes = info.total_bytes,
                       .backend_bytes = [info](const BackendLimits& limits) {
                         return PlannedCudaBytes(limits, {}, info);
                       }};
}

absl::StatusOr<Plan> PlanMemory(const Checkpoint& checkpoint, const PlanOptions& options) {
  // Of a part of the layers nobody can say which tensors do not belong.
  MEA_RETURN_IF_ERROR(PlannedWeightBytes(checkpoint).status());
  return PlanModel(checkpoint.config, options, [&](LayerRange layers, std::optional<DType> dtype) {
    return PlannedWeightBytes(checkpoint, layers, {.weight_dtype = dtype});
  });
}

absl::StatusOr<Plan> PlanRandomModel(const ModelConfig& config, const PlanOptions& options) {
  return PlanModel(config, options,
                   [&](LayerRange layers, std::optional<DType> dtype) -> absl::StatusOr<int64_t> {
                     return PlannedRandomWeightBytes(config, layers, dtype.value_or(DType::kBf16));
                   });
}

}  // namespace mea
