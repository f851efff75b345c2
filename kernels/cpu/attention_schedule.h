#pragma once

#include <vector>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/thread_pool.h"

namespace mea::cpu {

// Cuts an attention op into items and runs them. A sequence with few query tokens is cut by splits
// of its cache, so a single long one keeps every thread busy and its cache is read once. A sequence
// with many is cut by query tokens and heads, and each item walks the splits in order. Both do the
// same arithmetic for a row, so the choice changes no bit.
class AttentionSchedule {
 public:
  void Run(const PagedAttentionArgs& args, const AttentionKernels& kernels, ThreadPool& pool,
           std::vector<Scratch>& scratch);
  void Run(const InterleavedAttentionArgs& args, const InterleavedAttentionKernels& kernels,
           ThreadPool& pool, std::vector<Scratch>& scratch);

 private:
  void Plan(const PagedAttentionArgs& args, const HeadShape& shape, int num_threads);
  void AddPrefill(const PagedAttentionArgs& args, const HeadShape& shape, int seq);
  void AddDecode(const PagedAttentionArgs& args, const HeadShape& shape, int seq, int num_groups);
  template <typename Args>
  void RunPlan(const Args& args, int64_t head_dim, const AttentionKernelsOf<Args>& kernels,
               ThreadPool& pool, std::vector<Scratch>& scratch) const;

  // Kept between calls for their memory.
  std::vector<AttentionItem> items_;
  std::vector<MergeItem> merges_;
  HeadSources sources_;
  Scratch partials_;
};

}  // namespace mea::cpu
