#include "kernels/cpu/attention_schedule.h"

#include <algorithm>

namespace mea::cpu {
namespace {

// Up to this many query tokens (a decode step, a few speculated tokens) are cut by splits.
constexpr int kMaxDecodeTokens = 4;
// Rows (query tokens times query heads of a virtual head) of a prefill item: enough to amortise
// the composition of keys and values, few enough for the second-level cache.
constexpr int kPrefillRows = 192;

struct Splits {
  int begin;
  int end;
};

// The tokens that queries at positions [first, last] can see.
Splits VisibleSplits(const PagedAttentionArgs& args, const HeadShape& shape, int64_t first,
                     int64_t last) {
  const int64_t begin =
      args.window > 0 ? std::max<int64_t>(0, first + 1 - shape.max_lag() - args.window) : 0;
  return {.begin = static_cast<int>(begin / kSplitTokens),
          .end = static_cast<int>(last / kSplitTokens) + 1};
}

struct Sequence {
  int token_begin, token_end;
  int64_t first_position;

  Sequence(const PagedAttentionArgs& args, int seq)
      : token_begin(args.q_offsets.as<int32_t>()[seq]),
        token_end(args.q_offsets.as<int32_t>()[seq + 1]),
        first_position(args.kv_lens.as<int32_t>()[seq] - num_tokens()) {}
  int num_tokens() const { return token_end - token_begin; }
  bool is_decode() const { return num_tokens() <= kMaxDecodeTokens; }
  Splits splits(const PagedAttentionArgs& args, const HeadShape& shape) const {
    return VisibleSplits(args, shape, first_position, first_position + num_tokens() - 1);
  }
};

// Parts of the heads that an item may hold.
int NumUnits(const HeadShape& shape) { return (shape.heads + shape.unit - 1) / shape.unit; }

// Rows of one token, over all heads.
int64_t TokenRows(const HeadShape& shape) { return int64_t{shape.heads} * shape.group; }

int64_t NumPartials(const PagedAttentionArgs& args, const HeadShape& shape,
                    const Sequence& sequence) {
  const Splits splits = sequence.splits(args, shape);
  const int num_splits = splits.end - splits.begin;
  return num_splits == 1 ? 0 : num_splits * sequence.num_tokens() * TokenRows(shape);
}

}  // namespace

void AttentionSchedule::AddPrefill(const PagedAttentionArgs& args, const HeadShape& shape,
                                   int seq) {
  const Sequence sequence(args, seq);
  const int chunk = std::max(1, kPrefillRows / shape.group);
  // The last chunk sees most of the cache: the longest work goes first.
  const int num_chunks = (sequence.num_tokens() + chunk - 1) / chunk;
  for (int i = num_chunks - 1; i >= 0; --i) {
    const int begin = i * chunk;
    const int end = std::min(begin + chunk, sequence.num_tokens());
    const Splits splits = VisibleSplits(args, shape, sequence.first_position + begin,
                                        sequence.first_position + end - 1);
    for (int head = 0; head < shape.heads; head += shape.together) {
      items_.push_back({.sources = &sources_,
                        .seq = seq,
                        .token_begin = sequence.token_begin + begin,
                        .token_end = sequence.token_begin + end,
                        .head_begin = head,
                        .head_end = head + shape.together,
                        .split_begin = splits.begin,
                        .split_end = splits.end,
                        .partials = nullptr,
                        .token_stride = 0});
    }
  }
}

void AttentionSchedule::AddDecode(const PagedAttentionArgs& args, const HeadShape& shape, int seq,
                                  int num_groups) {
  const Sequence sequence(args, seq);
  const Splits splits = sequence.splits(args, shape);
  const int unit = shape.unit;
  const int num_units = NumUnits(shape);
  for (int split = splits.begin; split < splits.end; ++split) {
    for (int i = 0; i < num_groups; ++i) {
      items_.push_back({.sources = &sources_,
                        .seq = seq,
                        .token_begin = sequence.token_begin,
                        .token_end = sequence.token_end,
                        .head_begin = i * num_units / num_groups * unit,
                        .head_end = std::min((i + 1) * num_units / num_groups * unit, shape.heads),
                        .split_begin = split,
                        .split_end = split + 1,
                        .partials = nullptr,
                        .token_stride = 0});
    }
  }
}

void AttentionSchedule::Plan(const PagedAttentionArgs& args, const HeadShape& shape,
                             int num_threads) {
  items_.clear();
  merges_.clear();
  sources_.Assign(args, shape);
  const int num_seqs = static_cast<int>(args.kv_lens.shape[0]);
  int num_splits = 0;
  int64_t num_partials = 0;
  for (int seq = 0; seq < num_seqs; ++seq) {
    const Sequence sequence(args, seq);
    if (sequence.num_tokens() == 0) continue;
    if (!sequence.is_decode()) {
      AddPrefill(args, shape, seq);
      continue;
    }
    const Splits splits = sequence.splits(args, shape);
    num_splits += splits.end - splits.begin;
    num_partials += NumPartials(args, shape, sequence);
  }

  // A few items for each thread balance different lengths; more would compose keys again for
  // nothing.
  const int wanted = num_threads == 1 ? 1 : 4 * num_threads;
  const int num_groups =
      num_splits == 0 ? 1 : std::clamp((wanted + num_splits - 1) / num_splits, 1, NumUnits(shape));
  const int64_t token_rows = TokenRows(shape);
  const int64_t record_floats = RecordFloats(args.kv.spec.head_dim);
  float* partials = partials_.Ensure(num_partials * record_floats);
  for (int seq = 0; seq < num_seqs; ++seq) {
    const Sequence sequence(args, seq);
    if (sequence.num_tokens() == 0 || !sequence.is_decode()) continue;
    const size_t first_item = items_.size();
    AddDecode(args, shape, seq, num_groups);
    if (NumPartials(args, shape, sequence) == 0) continue;
    // Records are [token][split][row].
    const Splits splits = sequence.splits(args, shape);
    const int64_t token_stride = (splits.end - splits.begin) * token_rows;
    for (size_t i = first_item; i < items_.size(); ++i) {
      items_[i].partials =
          partials + (items_[i].split_begin - splits.begin) * token_rows * record_floats;
      items_[i].token_stride = token_stride;
    }
    for (int token = sequence.token_begin; token < sequence.token_end; ++token) {
      merges_.push_back({.token = token,
                         .num_splits = splits.end - splits.begin,
                         .partials = partials,
                         .split_stride = token_rows});
      partials += token_stride * record_floats;
    }
  }
}

template <typename Args>
void AttentionSchedule::RunPlan(const Args& args, int64_t head_dim,
                                const AttentionKernelsOf<Args>& kernels, ThreadPool& pool,
                                std::vector<Scratch>& scratch) const {
  pool.ParallelFor(items_.size(), [&](int64_t i, int thread) {
    float* memory = scratch[thread].Ensure(kernels.scratch_floats(args, items_[i]));
    kernels.run(args, items_[i], memory);
  });
  pool.ParallelFor(merges_.size(), [&](int64_t i, int thread) {
    kernels.merge(args, merges_[i], scratch[thread].Ensure(MergeFloats(head_dim)));
  });
}

void AttentionSchedule::Run(const PagedAttentionArgs& args, const AttentionKernels& kernels,
                            ThreadPool& pool, std::vector<Scratch>& scratch) {
  Plan(args, HeadShapeOf(args), pool.num_threads());
  RunPlan(args, args.kv.spec.head_dim, kernels, pool, scratch);
}

void AttentionSchedule::Run(const InterleavedAttentionArgs& args,
                            const InterleavedAttentionKernels& kernels, ThreadPool& pool,
                            std::vector<Scratch>& scratch) {
  Plan(args.paged, HeadShapeOf(args), pool.num_threads());
  RunPlan(args, args.paged.kv.spec.head_dim, kernels, pool, scratch);
}

}  // namespace mea::cpu
