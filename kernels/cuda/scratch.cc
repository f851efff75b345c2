#include "kernels/cuda/scratch.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/cuda/rope/rope.h"
#include "kernels/cuda/rowwise/rowwise.h"
#include "kernels/draw.h"
#include "kernels/status_macros.h"

namespace mea::cuda {
namespace {

// What a driver keeps on the device for one kernel of a graph: 500 kernels more took 32 MB in
// NVIDIA's forum (topic 244901, CUDA 11.2). Newer drivers need less; `graph_bytes` of the counters
// shows the actual size.
constexpr int64_t kBytesPerKernelOfGraph = 64 << 10;
// Two norms, four products, a gate, rotation and append, attention, its combination; biases.
constexpr int64_t kKernelsPerLayer = 12;
// Six instead of two products and a gate.
constexpr int64_t kMoreKernelsOfExperts = 3;
// Rotation's angles, embedding, first norm, work list; the output layer's graph has two more.
constexpr int64_t kKernelsBeside = 6;

absl::Status Refuse(absl::string_view what, int value, absl::string_view only) {
  return absl::InvalidArgumentError(
      absl::StrCat("the CUDA back end takes no ", what, " of ", value, ", only ", only));
}

absl::Status CheckMoeLimits(const BackendLimits& limits) {
  const auto& [num_experts, top_k, ffn_size] = limits.moe;
  if (num_experts == 0) return absl::OkStatus();
  if (num_experts > kMaxExperts) {
    return Refuse("mixture", num_experts, absl::StrCat("up to ", kMaxExperts, " experts"));
  }
  if (top_k > kMaxTopK) {
    return Refuse("choice", top_k, absl::StrCat("up to ", kMaxTopK, " experts"));
  }
  if (ffn_size % 8 != 0) return Refuse("expert's ffn", ffn_size, "multiples of 8");
  if (limits.hidden_size % 8 != 0) {
    return Refuse("hidden size beside experts", limits.hidden_size, "multiples of 8");
  }
  return absl::OkStatus();
}

// The limits of the kernels, checked before anything is allocated.
absl::Status CheckLimits(const BackendLimits& limits) {
  const auto refuse = [](absl::string_view what, int value, int most) {
    return Refuse(what, value, absl::StrCat("up to ", most));
  };
  if (limits.hidden_size > kMaxNormHidden) {
    return refuse("hidden size", limits.hidden_size, kMaxNormHidden);
  }
  if (limits.vocab_size > kMaxSampleVocab) {
    return refuse("vocabulary", limits.vocab_size, kMaxSampleVocab);
  }
  MEA_RETURN_IF_ERROR(CheckMoeLimits(limits));
  for (const AttentionKind& kind : limits.attention) {
    if (kind.head_dim > kMaxRopeHeadDim) return refuse("head", kind.head_dim, kMaxRopeHeadDim);
    if (kind.pseudo_heads > kMaxPseudoHeads) {
      return refuse("number of pseudo heads", kind.pseudo_heads, kMaxPseudoHeads);
    }
  }
  return absl::OkStatus();
}

int MaxRows(const BackendLimits& limits) { return std::max(limits.max_rows, limits.max_seqs); }

MoeScratch CarveMoe(const BackendLimits& limits, Carver& device) {
  const MoeShape& shape = limits.moe;
  if (shape.num_experts == 0) return {};
  const int rows = MaxRows(limits);
  const int slots = rows * shape.top_k;
  return {.max_slots = slots,
          .num_experts = shape.num_experts,
          .logits = device.Take<float>(int64_t{rows} * shape.num_experts),
          .chosen = device.Take<int32_t>(slots),
          .gates = device.Take<float>(slots),
          .order = device.Take<int32_t>(slots),
          .tiles = device.Take<ExpertTile>(ExpertTileRoom(slots, shape.num_experts)),
          .num_tiles = device.Take<int32_t>(1)};
}

absl::StatusOr<AttentionPlan> AttentionOf(const BackendLimits& limits,
                                          const CudaDeviceInfo& device) {
  // The cache may have larger pages than the limits say; tiled pages need the most.
  constexpr int kTile = SlabLayout::kTileTokens;
  const int page_size = (limits.page_size + kTile - 1) / kTile * kTile;
  std::vector<AttentionShape> shapes;
  for (const AttentionKind& kind : limits.attention) {
    shapes.push_back({.q_heads = kind.q_heads,
                      .kv_heads = kind.kv_heads,
                      .head_dim = kind.head_dim,
                      .page_size = page_size,
                      .window = kind.window,
                      .is_expanded = kind.is_composed || IsIntegerCache(kind.kv_dtype.keys) ||
                                     IsIntegerCache(kind.kv_dtype.values),
                      .pseudo_heads = kind.pseudo_heads});
  }
  return PlanAttention({.max_rows = MaxRows(limits),
                        .max_seqs = limits.max_seqs,
                        .max_context = limits.max_context,
                        .num_sms = device.num_sms,
                        .sm_version = device.sm},
                       shapes);
}

int64_t GraphBytes(const BackendLimits& limits, int max_graphs) {
  int64_t sizes = 0;
  for (int rows = 1; rows <= limits.max_seqs; rows = PadRows(rows) + 1) ++sizes;
  const int64_t per_layer =
      kKernelsPerLayer + (limits.moe.num_experts > 0 ? kMoreKernelsOfExperts : 0);
  const int64_t kernels = limits.num_layers * per_layer + kKernelsBeside;
  // A size has two graphs: of the layers, and of the output layer.
  return std::min<int64_t>(sizes, (max_graphs + 1) / 2) * kernels * kBytesPerKernelOfGraph;
}

}  // namespace

int PadRows(int num_rows) {
  int padded = 1;
  while (padded < num_rows && padded < 8) padded *= 2;
  return num_rows <= 8 ? padded : (num_rows + 7) / 8 * 8;
}

absl::StatusOr<ScratchPlan> PlanScratch(const BackendLimits& limits, const CudaOptions& options,
                                        const CudaDeviceInfo& device) {
  MEA_RETURN_IF_ERROR(CheckLimits(limits));
  MEA_ASSIGN_OR_RETURN(const AttentionPlan attention, AttentionOf(limits, device));
  ScratchPlan plan{.limits = limits,
                   .attention = attention,
                   .product_bytes = options.product_scratch_bytes,
                   .graph_bytes = GraphBytes(limits, options.max_graphs)};
  Carver on_device, on_host;
  CarveScratch(plan, on_device, on_host);
  plan.device_bytes = on_device.bytes();
  plan.host_bytes = on_host.bytes();
  return plan;
}

Scratch CarveScratch(const ScratchPlan& plan, Carver& device, Carver& host) {
  return {.gemm = Gemm::Carve(plan.limits.products, plan.product_bytes, device),
          .moe = CarveMoe(plan.limits, device),
          .sample = SampleQueue::Carve(plan.limits, device, host),
          .attention = device.Take(plan.attention.workspace_bytes)};
}

absl::StatusOr<BackendBytes> PlannedBytes(const BackendLimits& limits, const CudaOptions& options,
                                          const CudaDeviceInfo& device) {
  MEA_ASSIGN_OR_RETURN(const ScratchPlan plan, PlanScratch(limits, options, device));
  return BackendBytes{.scratch = plan.device_bytes, .graphs = plan.graph_bytes};
}

}  // namespace mea::cuda
