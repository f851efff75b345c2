#pragma once

#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/matmul_schedule.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/cpu/thread_runs.h"

namespace mea::cpu {

// Backend::Moe: routes the rows, puts those of one expert together, multiplies each group by its
// expert with the kernels of MatMul, and adds up the results of each row's experts. These kernels
// give an element the same bits in any group, so grouping changes nothing.
class MoeSchedule {
 public:
  void Run(const MoeArgs& args, const KernelTable& kernels, ThreadPool& pool,
           std::vector<Scratch>& scratch);

 private:
  // Adjacent rows of one expert: all of them, if they are so few that its weights stream.
  struct Panel {
    int expert;
    int row;
    int num_rows;
    bool has_many_rows;
  };
  // Some outputs of a panel.
  struct Block {
    int panel;
    int64_t out;
    int64_t num_outs;
  };

  void Route(const MoeArgs& args, const KernelTable& kernels, ThreadPool& pool,
             std::vector<Scratch>& scratch);
  void Group(const MoeArgs& args);
  void CutPanels(int max_streamed_rows);
  // The blocks of a product of all panels with matrices like w.
  void CutBlocks(const TensorView& w, const ProductKernels& product, int num_threads);
  // Packs rows of x, for panels that need it.
  void Pack(TensorView x, const ProductKernels& product, ThreadPool& pool);
  // A block's product with its expert's matrix w, except for its destination.
  MatMulBlock BlockOf(const Block& block, TensorView x, TensorView w,
                      const ProductKernels& product) const;
  void GateUp(const MoeArgs& args, const KernelTable& kernels, ThreadPool& pool,
              std::vector<Scratch>& scratch);
  void Down(const MoeArgs& args, const KernelTable& kernels, ThreadPool& pool,
            std::vector<Scratch>& scratch);
  void Combine(const MoeArgs& args, ThreadPool& pool) const;

  // These grow to the largest step and then allocate no more.
  MatMulSchedule router_;
  Scratch logits_;                 // [num_tokens, num_experts]
  std::vector<int32_t> chosen_;    // [num_tokens, top_k] experts, ascending
  std::vector<float> gates_;       // [num_tokens, top_k] their weights
  std::vector<int32_t> begin_;     // [num_experts + 1] first row of each expert
  std::vector<int32_t> place_;     // [num_tokens, top_k] rows of `inner` and `rows`
  std::vector<int32_t> token_of_;  // [num_tokens * top_k] the token of a row
  std::vector<Panel> panels_;
  std::vector<Block> blocks_;
  ThreadRuns runs_;  // of them
  Scratch packed_;   // x of the current product
};

}  // namespace mea::cpu
