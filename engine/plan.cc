#include "engine/plan.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/device.h"
#include "engine/load.h"
#include "kvcache/kv_layout.h"

namespace mea {
namespace {

// Only matrices change their dtype; vectors are a rounding error of the sum.
int64_t WeightBytes(const SafeTensors& tensors, std::optional<DType> matrix_dtype) {
  int64_t bytes = 0;
  for (const auto& [name, tensor] : tensors.tensors()) {
    const bool converted = matrix_dtype.has_value() && tensor.shape.size() >= 2;
    const int64_t stored_size = StoredDTypeSize(tensor.dtype);
    bytes += tensor.num_bytes / stored_size * (converted ? DTypeSize(*matrix_dtype) : stored_size);
  }
  return bytes;
}

CachePlan PlanCache(int64_t bytes, int64_t bytes_per_token, const KvLayout& layout, int context) {
  const int64_t num_pages = bytes / (bytes_per_token * layout.page_size);
  return {.bytes_per_token = bytes_per_token,
          .num_tokens = num_pages * layout.page_size,
          .num_sequences = num_pages / layout.PagesFor(context)};
}

}  // namespace

absl::StatusOr<Plan> PlanMemory(const Checkpoint& checkpoint, const PlanOptions& options) {
  const ModelConfig& config = checkpoint.config;
  if (options.context > config.max_position) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--context ", options.context, " exceeds the model's context of ", config.max_position));
  }
  auto weight_dtype = ParseWeightDType(options.weight_dtype);
  if (!weight_dtype.ok()) return weight_dtype.status();
  const DeviceDefaults& device = DefaultsOf(options.device);
  if (device.bf16_only) *weight_dtype = DType::kBf16;
  const absl::StatusOr<DType> kv_dtype = ParseKvDType(options.kv_dtype);
  if (!kv_dtype.ok()) return kv_dtype.status();

  Plan plan{.weights_bytes = WeightBytes(checkpoint.tensors, *weight_dtype),
            .workspace_bytes =
                Workspace::PlannedBytes(config, options.limits, device.compute, device.wide),
            .context = options.context == 0 ? config.max_position : options.context};
  plan.cache_bytes =
      std::max<int64_t>(options.memory_bytes - plan.weights_bytes - plan.workspace_bytes, 0);
  const KvLayout layout = MakeKvLayout(config, *kv_dtype, options.page_size);
  plan.physical = PlanCache(plan.cache_bytes, layout.BytesPerToken(), layout, plan.context);
  plan.uncompressed =
      PlanCache(plan.cache_bytes, layout.UncompressedBytesPerToken(), layout, plan.context);
  return plan;
}

}  // namespace mea
