#pragma once

#include <vector>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/thread_pool.h"

namespace mea::cpu {

// Cuts a PagedAttention into items and runs them. A sequence with few query tokens is cut by
// splits of its cache, so that a single long one keeps every thread busy and its cache is read
// once; a sequence with many is cut by query tokens and heads, and each item walks the splits in
// order. Both do the same arithmetic for a row, so the choice moves no bit.
class AttentionSchedule {
 public:
  void Run(const PagedAttentionArgs& args, const AttentionKernels& kernels, ThreadPool& pool,
           std::vector<Scratch>& scratch);

 private:
  void AddPrefill(const PagedAttentionArgs& args, int seq);
  void AddDecode(const PagedAttentionArgs& args, int seq, int num_groups);

  // Kept between calls for their memory.
  std::vector<AttentionItem> items_;
  std::vector<MergeItem> merges_;
  Scratch partials_;
};

}  // namespace mea::cpu
