#include "engine/plan.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "engine/device.h"
#include "engine/host_memory.h"
#include "engine/load.h"
#include "engine/model/backend_limits.h"
#include "engine/model/model_weights.h"
#include "kernels/status_macros.h"
#include "kvcache/kv_layout.h"

namespace mea {
namespace {

// An H100 or H200: the two numbers that scratch memory depends on.
const CudaDeviceInfo kAssumedDevice = {.sm = 90, .num_sms = 132};

CachePlan PlanCache(int64_t bytes, int64_t bytes_per_token, const KvLayout& layout, int context) {
  const int64_t page_bytes = bytes_per_token * layout.page_size / layout.num_groups();
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

// Everything except the weights; `weight_bytes` returns their bytes for matrices of a dtype
// (absent: as stored).
template <typename WeightBytes>
absl::StatusOr<Plan> PlanModel(ModelConfig config, const PlanOptions& options,
                               const WeightBytes& weight_bytes) {
  MEA_RETURN_IF_ERROR(SetContext("--context", options.context, config));
  const DeviceDefaults& defaults = DefaultsOf(options.device.device);
  MEA_ASSIGN_OR_RETURN(
      const auto weight_dtype,
      WeightDTypeFor(options.weight_dtype,
                     defaults.bf16_only ? std::optional(DType::kBf16) : std::nullopt));
  MEA_ASSIGN_OR_RETURN(const KvDTypes kv_dtype,
                       ParseKvDType(options.kv_dtype, options.device.device));
  MEA_RETURN_IF_ERROR(CheckKvDType(config, kv_dtype, options.device.device));
  MEA_ASSIGN_OR_RETURN(const int64_t weights, weight_bytes(weight_dtype));
  ModelLimits limits = options.limits;
  limits.kv_dtype = kv_dtype;
  absl::StatusOr<BackendBytes> backend = BackendBytes{};
  if (options.device.backend_bytes) {
    backend = options.device.backend_bytes(MakeBackendLimits(config, limits));
  }
  // A program without the module can still report the rest.
  if (!backend.ok() && !absl::IsNotFound(backend.status())) return backend.status();

  Plan plan{.weights_bytes = weights,
            .workspace_bytes = Model::PlannedWorkspaceBytes(config, limits, options.device.device),
            .scratch_bytes = backend.ok() ? backend->scratch : 0,
            .graphs_bytes = backend.ok() ? backend->graphs : 0,
            .missing = std::string(backend.status().message()),
            .context = config.max_position};
  plan.cache_bytes =
      std::max<int64_t>(options.memory_bytes - plan.weights_bytes - plan.workspace_bytes -
                            plan.scratch_bytes - plan.graphs_bytes,
                        0);
  const KvLayout layout = MakeKvLayout(config, kv_dtype, limits);
  const absl::StatusOr<int64_t> by_default = DefaultCacheBytes(plan, layout, options);
  plan.default_cache_bytes = by_default.value_or(0);
  plan.refusal = by_default.status();
  plan.physical = PlanCache(plan.cache_bytes, layout.BytesPerToken(), layout, plan.context);
  plan.uncompressed =
      PlanCache(plan.cache_bytes, layout.UncompressedBytesPerToken(), layout, plan.context);
  plan.by_default =
      PlanCache(plan.default_cache_bytes, layout.BytesPerToken(), layout, plan.context);
  return plan;
}

}  // namespace

absl::StatusOr<PlannedDevice> DescribePlannedDevice(const std::string& device) {
  MEA_RETURN_IF_ERROR(CheckDeviceName(device));
  if (device == "cpu") return PlannedDevice{};
  const absl::StatusOr<CudaDeviceInfo> found = DescribeCudaDevice();
  if (device == "auto" && !found.ok()) return PlannedDevice{};
  const CudaDeviceInfo info = found.value_or(kAssumedDevice);
  return PlannedDevice{.device = Device::kCuda,
                       .name = info.name,
                       .total_bytes = info.total_bytes,
                       .backend_bytes = [info](const BackendLimits& limits) {
                         return PlannedCudaBytes(limits, {}, info);
                       }};
}

absl::StatusOr<Plan> PlanMemory(const Checkpoint& checkpoint, const PlanOptions& options) {
  return PlanModel(checkpoint.config, options, [&](std::optional<DType> dtype) {
    return PlannedWeightBytes(checkpoint, {.weight_dtype = dtype});
  });
}

absl::StatusOr<Plan> PlanRandomModel(const ModelConfig& config, const PlanOptions& options) {
  return PlanModel(config, options, [&](std::optional<DType> dtype) -> absl::StatusOr<int64_t> {
    return PlannedRandomWeightBytes(config, dtype.value_or(DType::kBf16));
  });
}

}  // namespace mea
