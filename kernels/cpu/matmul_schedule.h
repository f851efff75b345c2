#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/matmul.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/ops/linear.h"

namespace mea::cpu {

// Outputs per block of a product with few enough rows to stream its weights, `num_outs` in total:
// two blocks per thread even out the threads' speeds, and more would begin too often with weights
// that nobody has read ahead. A multiple of `unit`.
int64_t StreamedOuts(int64_t num_outs, int num_threads, int unit);

// MatMulBlock::w_group.
int GroupOf(const TensorView& w);

// Cuts the products of some rows with several matrices into blocks of outputs (and of rows, if
// there are many) and runs them. Rows are packed once for neighbours whose weights have the same
// dtype and
// order.
class MatMulSchedule {
 public:
  void Run(const MatMulArgs& args, const MatMulKernels& kernels, ThreadPool& pool,
           std::vector<Scratch>& scratch);

 private:
  void RunAlike(const MatMulArgs& args, const ProductKernels& kernels, ThreadPool& pool,
                std::vector<Scratch>& scratch);

  // x with its columns in the order of a matrix in 4 bits.
  TensorView InOrder(TensorView x, std::span<const int32_t> order, ThreadPool& pool);

  Scratch ordered_;
  Scratch packed_;  // x of the current products
};

}  // namespace mea::cpu
