#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "kernels/cuda/attention/decode_mma.h"
#include "kernels/cuda/attention/interleaved.h"
#include "kernels/cuda/attention/params.h"
#include "kernels/cuda_module.h"

namespace mea::cuda {

// One layer's attention: what decides memory and the choice of kernels.
struct AttentionShape {
  int q_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int page_size = 0;
  int window = 0;
  // Heads are mixed, keys normed or stored as integers: long chunks attend to an expanded copy of
  // the cache.
  bool is_expanded = false;
  int pseudo_heads = 0;  // P of interleaved attention, else 0
};

// The most that one step may ask for.
struct AttentionLimits {
  int max_rows = 0;     // query rows of a batch, padding included
  int max_seqs = 0;     // all of them may decode in one step
  int max_context = 0;  // cached tokens of a sequence
  int num_sms = 0;      // multiprocessors of the device
  int sm_version = 0;   // 80, 90: its compute capability
};

// How attention uses its workspace, made once at start: a step allocates nothing.
struct AttentionPlan {
  AttentionLimits limits;
  int num_blocks = 0;          // persistent blocks of a decode kernel
  int64_t max_items = 0;       // splits in flight; see PlanAttention
  int64_t list_bytes = 0;      // of one work list
  int64_t list_offset = 0;     // of the first of PagedAttention::kMaxLists lists
  int64_t partial_offset = 0;  // [max_items, q_heads, head_dim] f32
  int64_t stats_offset = 0;    // [max_items, q_heads] SoftmaxStats
  int64_t expand_offset = 0;   // keys, then values: tiles of one sequence's virtual heads, BF16
  int64_t expand_bytes = 0;    // of each
  int64_t workspace_bytes = 0;
};

// INVALID_ARGUMENT names a shape that no kernel supports. The workspace does not grow with max_seqs
// times max_context: a batch with more invariant splits than kSplitsPerBlock for each block takes
// several passes, and a step of single rows, which may be a graph, takes longer splits.
absl::StatusOr<AttentionPlan> PlanAttention(const AttentionLimits& limits,
                                            std::span<const AttentionShape> layers);

using DecodeKernel = CudaDecodeKernel;
using PrefillKernel = CudaPrefillKernel;

struct AttentionOptions {
  DecodeKernel kernel = DecodeKernel::kAuto;  // kGeneral: also for long chunks
  PrefillKernel prefill_kernel = PrefillKernel::kAuto;
  WeightRounding rounding = WeightRounding::kBf16;
  bool is_batch_invariant = false;  // a decode row's bits are the same in every batch
};

// Launches the kernels of paged attention. One thread; the caller owns the workspace, and the
// launches use it until the stream has run them. Rows of sequences with up to kMaxDecodeQueries
// query rows go to the decode kernels, longer chunks to the prefill kernels.
class PagedAttention {
 public:
  static constexpr int kMaxDecodeQueries = 8;
  static constexpr int kMaxLists = 2;  // work lists kept within a step, one per kind of layer

  // `workspace`: device memory of plan.workspace_bytes, aligned to 1024.
  PagedAttention(const AttentionPlan& plan, std::byte* workspace)
      : plan_(plan), workspace_(workspace) {}

  // Before the first layer of a step: host copies of the step's arrays, [num_seqs + 1] and
  // [num_seqs]. Where every sequence has one query row the launches depend on nothing but num_seqs:
  // such a step may become a graph that is launched again with other lengths.
  void BeginStep(std::span<const int32_t> q_offsets, std::span<const int32_t> kv_lens);

  // One layer. The shape must be one of the plan's.
  cudaError_t Run(const AttentionParams& params, const AttentionOptions& options,
                  cudaStream_t stream);
  // The same for interleaved pseudo heads: q_heads and kv_heads count all of them.
  cudaError_t RunInterleaved(const AttentionParams& params, const PseudoHeads& pseudo,
                             const AttentionOptions& options, cudaStream_t stream);

 private:
  struct Rows {
    int begin;
    int end;
  };
  // What decides a work list.
  struct ListKind {
    int window = 0;  // that rows see
    int max_queries = 0;
    int parts = 1;  // of an item
    SplitRule rule;

    bool operator==(const ListKind&) const = default;
  };
  struct List {
    ListKind kind;
    std::vector<Rows> passes;  // each fits max_items
    bool is_built = false;     // of the only pass
    WorkList memory;
  };

  // Items of rows, attended by `launch` and merged.
  cudaError_t Decode(const AttentionParams& params, const ListKind& kind,
                     absl::FunctionRef<cudaError_t(const DecodeParams&)> launch,
                     cudaStream_t stream);
  cudaError_t Prefill(const AttentionParams& params, int seq, const AttentionOptions& options,
                      cudaStream_t stream);
  List& FindList(const ListKind& kind);
  void PlanPasses(List& list) const;
  WorkList ListMemory(int index, int parts) const;

  AttentionPlan plan_;
  std::byte* workspace_;
  std::vector<int32_t> q_offsets_;
  std::vector<int32_t> kv_lens_;
  bool decodes_only_ = false;  // every sequence has one query row
  std::array<List, kMaxLists> lists_;
  int num_lists_ = 0;  // of this step
};

}  // namespace mea::cuda
