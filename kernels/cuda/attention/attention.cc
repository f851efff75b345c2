#include "kernels/cuda/attention/attention.h"

#include <algorithm>
#include <climits>

#include "absl/strings/str_cat.h"
#include "kernels/check.h"
#include "kernels/cuda/attention/combine.h"
#include "kernels/cuda/attention/decode_general.h"
#include "kernels/cuda/attention/decode_integers.h"
#include "kernels/cuda/attention/decode_wgmma.h"
#include "kernels/cuda/attention/expand.h"
#include "kernels/cuda/attention/head_block.h"
#include "kernels/cuda/attention/prefill_mma.h"
#include "kernels/cuda/attention/prefill_wgmma.h"
#include "kernels/status_macros.h"

namespace mea::cuda {
namespace {

// Enough blocks to hide each other's stalls.
constexpr int kBlocksPerSm = 2;

// With 264 blocks as many splits of 256 tokens as 2 million tokens have, about what the cache of
// a device holds: only sequences that share prefixes have more.
constexpr int64_t kSplitsPerBlock = 32;

int64_t AlignUp(int64_t bytes) { return (bytes + 1023) / 1024 * 1024; }

absl::Status CheckShape(const AttentionShape& shape) {
  if (shape.head_dim % 2 != 0 || shape.head_dim <= 0 || shape.head_dim > kMaxGeneralHeadDim) {
    return absl::InvalidArgumentError(absl::StrCat(
        "head_dim ", shape.head_dim, " is not an even number up to ", kMaxGeneralHeadDim));
  }
  if (shape.kv_heads <= 0 || shape.q_heads % shape.kv_heads != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("q_heads ", shape.q_heads, " is not a multiple of kv_heads ", shape.kv_heads));
  }
  return absl::OkStatus();
}

int64_t ListBytes(const AttentionLimits& limits, int num_blocks, int64_t max_items) {
  return AlignUp(max_items * static_cast<int64_t>(sizeof(WorkItem))) +
         AlignUp(limits.max_rows * static_cast<int64_t>(sizeof(RowItems))) +
         AlignUp(limits.max_rows * static_cast<int64_t>(sizeof(int))) +
         AlignUp((num_blocks + 1) * static_cast<int64_t>(sizeof(int)));
}

DecodeKernel ChooseDecode(const AttentionParams& p, DecodeKernel wanted, int sm_version) {
  if (wanted == DecodeKernel::kWgmma && !p.has_integers() &&
      HasDecodeWgmma(sm_version, p.head_dim, p.page_size)) {
    return DecodeKernel::kWgmma;
  }
  const bool has_mma = wanted != DecodeKernel::kGeneral &&
                       (p.has_integers() ? HasDecodeIntegers(p.head_dim, p.page_size, p.dtype)
                                         : HasDecodeMma(p.head_dim, p.page_size));
  return has_mma ? DecodeKernel::kMma : DecodeKernel::kGeneral;
}

cudaError_t LaunchDecode(const DecodeParams& params, DecodeKernel kernel, WeightRounding rounding,
                         cudaStream_t stream) {
  if (kernel == DecodeKernel::kWgmma) return LaunchDecodeWgmma(params, rounding, stream);
  const bool is_mma = kernel == DecodeKernel::kMma;
  if (is_mma && params.attention.has_integers()) return LaunchDecodeIntegers(params, stream);
  if (is_mma) return LaunchDecodeMma(params, rounding, stream);
  return LaunchDecodeGeneral(params, stream);
}

SplitRule RuleOf(const AttentionParams& p, bool is_batch_invariant) {
  if (is_batch_invariant) return {};
  const int key_slabs = p.is_plain() ? 1 : p.key_heads;
  const int value_slabs = p.is_plain() ? 1 : p.value_heads;
  return SharesOf(SlabLayout::kTileTokens *
                  (key_slabs * KvHeadBytes(p.head_dim, p.dtype.keys) +
                   value_slabs * KvHeadBytes(p.head_dim, p.dtype.values)));
}

cudaError_t LaunchPrefill(const PrefillParams& params, const AttentionOptions& options,
                          int sm_version, cudaStream_t stream) {
  const AttentionParams& p = params.attention;
  if (options.prefill_kernel == PrefillKernel::kWgmma && p.scale > 0.0f &&
      HasPrefillWgmma(sm_version, p.head_dim, p.page_size)) {
    return LaunchPrefillWgmma(params, stream);
  }
  return LaunchPrefillMma(params, stream);
}

}  // namespace

absl::StatusOr<AttentionPlan> PlanAttention(const AttentionLimits& limits,
                                            std::span<const AttentionShape> layers) {
  AttentionPlan plan = {.limits = limits, .num_blocks = kBlocksPerSm * limits.num_sms};
  int max_splits = 1;
  int64_t item_floats = 0;
  int64_t item_heads = 0;
  int64_t expand_elements = 0;
  for (const AttentionShape& shape : layers) {
    MEA_RETURN_IF_ERROR(CheckShape(shape));
    const int window = shape.pseudo_heads > 0
                           ? WindowOfPseudoHeads(shape.window, shape.pseudo_heads)
                           : shape.window;
    const int visible = window > 0 ? std::min(window, limits.max_context) : limits.max_context;
    max_splits = std::max(max_splits, MaxSplits(visible));
    item_floats = std::max(item_floats, int64_t{shape.q_heads} * shape.head_dim);
    item_heads = std::max<int64_t>(item_heads, shape.q_heads);
    if (shape.is_expanded && shape.pseudo_heads == 0 &&
        HasPrefillMma(shape.head_dim, shape.page_size)) {
      const int64_t tokens = (limits.max_context + SlabLayout::kTileTokens - 1) /
                             SlabLayout::kTileTokens * SlabLayout::kTileTokens;
      expand_elements = std::max(expand_elements, tokens * shape.kv_heads * shape.head_dim);
    }
  }
  const int64_t max_seqs = std::max(1, limits.max_seqs);
  plan.max_items =
      std::min(max_seqs * max_splits + plan.num_blocks,
               std::max<int64_t>(max_splits, max_seqs + kSplitsPerBlock * plan.num_blocks));
  plan.list_bytes = ListBytes(limits, plan.num_blocks, plan.max_items);
  plan.list_offset = 0;
  plan.partial_offset = plan.list_offset + PagedAttention::kMaxLists * plan.list_bytes;
  plan.stats_offset = plan.partial_offset + AlignUp(plan.max_items * item_floats * 4);
  plan.expand_offset = plan.stats_offset + AlignUp(plan.max_items * item_heads *
                                                   static_cast<int64_t>(sizeof(SoftmaxStats)));
  plan.expand_bytes = AlignUp(expand_elements * static_cast<int64_t>(sizeof(Bf16)));
  plan.workspace_bytes = plan.expand_offset + 2 * plan.expand_bytes;
  return plan;
}

void PagedAttention::BeginStep(std::span<const int32_t> q_offsets,
                               std::span<const int32_t> kv_lens) {
  q_offsets_.assign(q_offsets.begin(), q_offsets.end());
  kv_lens_.assign(kv_lens.begin(), kv_lens.end());
  decodes_only_ = true;
  for (size_t i = 0; i < q_offsets.size(); ++i) {
    decodes_only_ &= q_offsets[i] == static_cast<int32_t>(i);
  }
  num_lists_ = 0;
}

WorkList PagedAttention::ListMemory(int index, int parts) const {
  std::byte* memory = workspace_ + plan_.list_offset + index * plan_.list_bytes;
  const auto take = [&](int64_t bytes) {
    std::byte* begin = memory;
    memory += AlignUp(bytes);
    return begin;
  };
  WorkList list;
  list.items =
      reinterpret_cast<WorkItem*>(take(plan_.max_items * static_cast<int64_t>(sizeof(WorkItem))));
  list.max_items = static_cast<int>(plan_.max_items);
  list.rows = reinterpret_cast<RowItems*>(
      take(plan_.limits.max_rows * static_cast<int64_t>(sizeof(RowItems))));
  list.row_costs =
      reinterpret_cast<int*>(take(plan_.limits.max_rows * static_cast<int64_t>(sizeof(int))));
  list.column_begin =
      reinterpret_cast<int*>(take((plan_.num_blocks + 1) * static_cast<int64_t>(sizeof(int))));
  list.num_columns = NumColumns(plan_.num_blocks, parts);
  return list;
}

// Cuts the batch into runs of rows whose splits fit the workspace. A step of single rows is one,
// whatever the lengths: they may be others when its graph is launched.
void PagedAttention::PlanPasses(List& list) const {
  list.passes.clear();
  const int num_rows = q_offsets_.back();
  if (decodes_only_) {
    MEA_CHECK(num_rows <= plan_.max_items);
    if (num_rows > 0) list.passes.push_back({0, num_rows});
    return;
  }
  const SplitRule& rule = list.kind.rule;
  const int64_t max_items = plan_.max_items - (rule.is_invariant ? 0 : list.memory.num_columns);
  Rows pass = {0, 0};
  int64_t items = 0;
  bool decodes = false;
  for (size_t seq = 0; seq < kv_lens_.size(); ++seq) {
    const int begin = q_offsets_[seq];
    const int end = q_offsets_[seq + 1];
    const bool is_decoded = end - begin <= list.kind.max_queries;
    for (int row = begin; row < end; ++row) {
      int count = is_decoded ? 1 : 0;
      if (is_decoded && rule.is_invariant) {
        count = RowSplits(VisibleTokens(kv_lens_[seq], end, row, list.kind.window)).count();
      }
      if (items + count > max_items) {
        list.passes.push_back(pass);
        pass.begin = row;
        items = 0;
      }
      items += count;
      pass.end = row + 1;
      decodes |= is_decoded;
    }
  }
  if (decodes) list.passes.push_back(pass);
}

PagedAttention::List& PagedAttention::FindList(const ListKind& kind) {
  for (int i = 0; i < num_lists_; ++i) {
    List& list = lists_[i];
    if (list.kind == kind) return list;
  }
  // If there are more kinds of layers than lists, the last list is rebuilt for each kind.
  if (num_lists_ < kMaxLists) ++num_lists_;
  List& list = lists_[num_lists_ - 1];
  list.kind = kind;
  list.is_built = false;
  list.memory = ListMemory(num_lists_ - 1, kind.parts);
  PlanPasses(list);
  return list;
}

cudaError_t PagedAttention::Run(const AttentionParams& params, const AttentionOptions& options,
                                cudaStream_t stream) {
  MEA_CHECK(params.num_seqs == static_cast<int>(kv_lens_.size()));
  MEA_CHECK(params.num_rows == q_offsets_.back());
  MEA_CHECK(params.num_rows <= plan_.limits.max_rows);
  const bool has_prefill =
      options.kernel != DecodeKernel::kGeneral && HasPrefillMma(params.head_dim, params.page_size);
  const int max_queries = has_prefill ? kMaxDecodeQueries : INT_MAX;
  const DecodeKernel kernel = ChooseDecode(params, options.kernel, plan_.limits.sm_version);
  const ListKind kind = {.window = params.window,
                         .max_queries = max_queries,
                         .parts = kernel == DecodeKernel::kGeneral ? GeneralParts(params.q_heads)
                                                                   : HeadBlock::Count(params),
                         .rule = RuleOf(params, options.is_batch_invariant)};
  const auto launch = [&](const DecodeParams& decode) {
    return LaunchDecode(decode, kernel, options.rounding, stream);
  };
  if (cudaError_t error = Decode(params, kind, launch, stream); error != cudaSuccess) return error;
  for (int seq = 0; seq < params.num_seqs; ++seq) {
    if (q_offsets_[seq + 1] - q_offsets_[seq] <= max_queries) continue;
    if (cudaError_t error = Prefill(params, seq, options, stream); error != cudaSuccess)
      return error;
  }
  return cudaSuccess;
}

cudaError_t PagedAttention::RunInterleaved(const AttentionParams& params, const PseudoHeads& pseudo,
                                           const AttentionOptions& options, cudaStream_t stream) {
  MEA_CHECK(params.num_seqs == static_cast<int>(kv_lens_.size()));
  MEA_CHECK(params.num_rows == q_offsets_.back() && params.num_rows <= plan_.limits.max_rows);
  const ListKind kind = {.window = WindowOfPseudoHeads(params.window, pseudo.pseudo_heads),
                         .max_queries = INT_MAX,
                         .parts = GeneralParts(params.q_heads),
                         .rule = RuleOf(params, options.is_batch_invariant)};
  const auto launch = [&](const DecodeParams& decode) {
    return LaunchInterleaved({.decode = decode, .pseudo = pseudo}, stream);
  };
  return Decode(params, kind, launch, stream);
}

cudaError_t PagedAttention::Decode(const AttentionParams& params, const ListKind& kind,
                                   absl::FunctionRef<cudaError_t(const DecodeParams&)> launch,
                                   cudaStream_t stream) {
  List& list = FindList(kind);
  const DecodeParams decode = {
      .attention = params,
      .list = list.memory,
      .num_blocks = list.memory.num_columns * kind.parts,
      .partial_out = reinterpret_cast<float*>(workspace_ + plan_.partial_offset),
      .partial_stats = reinterpret_cast<SoftmaxStats*>(workspace_ + plan_.stats_offset)};
  for (const Rows rows : list.passes) {
    if (!list.is_built) {
      const cudaError_t error = LaunchBuildWorkList({.q_offsets = params.q_offsets,
                                                     .kv_lens = params.kv_lens,
                                                     .num_seqs = params.num_seqs,
                                                     .row_begin = rows.begin,
                                                     .row_end = rows.end,
                                                     .window = kind.window,
                                                     .max_queries = kind.max_queries,
                                                     .rule = kind.rule,
                                                     .list = list.memory},
                                                    stream);
      if (error != cudaSuccess) return error;
      list.is_built = list.passes.size() == 1;
    }
    if (cudaError_t error = launch(decode); error != cudaSuccess) return error;
    if (cudaError_t error = LaunchCombine(decode, rows.begin, rows.end, stream);
        error != cudaSuccess) {
      return error;
    }
  }
  return cudaSuccess;
}

cudaError_t PagedAttention::Prefill(const AttentionParams& params, int seq,
                                    const AttentionOptions& options, cudaStream_t stream) {
  const int kv_len = kv_lens_[seq];
  const int q_begin = q_offsets_[seq];
  const int q_end = q_offsets_[seq + 1];
  const int32_t* pages = params.page_table + int64_t{seq} * params.page_table_stride;
  const TokenRange first_row = VisibleTokens(kv_len, q_end, q_begin, params.window);
  const ExpandParams expand = {.pages = pages,
                               .kv_heads = params.kv_heads,
                               .head_dim = params.head_dim,
                               .page_size = params.page_size,
                               .tokens = {first_row.begin, kv_len}};
  const HeadSlabs cached = {.pages = pages, .page_size = params.page_size};
  PrefillParams prefill = {.attention = params,
                           .keys = cached,
                           .values = cached,
                           .q_begin = q_begin,
                           .q_len = q_end - q_begin,
                           .kv_len = kv_len};
  prefill.keys.slabs = params.keys;
  prefill.values.slabs = params.values;
  const int64_t expanded_bytes = int64_t{kv_len} * params.kv_heads * params.head_dim * 2;
  const auto& [key_dtype, value_dtype] = params.dtype;
  if (params.key_mix != nullptr || params.key_norms != nullptr || key_dtype != DType::kBf16) {
    MEA_CHECK(expanded_bytes <= plan_.expand_bytes);
    ExpandParams keys = expand;
    keys.slabs = params.keys;
    keys.dtype = key_dtype;
    keys.mix = params.key_mix;
    keys.norms = params.key_norms;
    keys.num_heads = params.key_heads;
    keys.out = reinterpret_cast<Bf16*>(workspace_ + plan_.expand_offset);
    if (cudaError_t error = LaunchExpand(keys, stream); error != cudaSuccess) return error;
    prefill.keys = {.slabs = keys.out, .page_size = SlabLayout::kTileTokens};
  }
  if (params.value_mix != nullptr || value_dtype != DType::kBf16) {
    MEA_CHECK(expanded_bytes <= plan_.expand_bytes);
    ExpandParams values = expand;
    values.slabs = params.values;
    values.dtype = value_dtype;
    values.mix = params.value_mix;
    values.num_heads = params.value_heads;
    values.out = reinterpret_cast<Bf16*>(workspace_ + plan_.expand_offset + plan_.expand_bytes);
    if (cudaError_t error = LaunchExpand(values, stream); error != cudaSuccess) return error;
    prefill.values = {.slabs = values.out, .page_size = SlabLayout::kTileTokens};
  }
  return LaunchPrefill(prefill, options, plan_.limits.sm_version, stream);
}

}  // namespace mea::cuda
