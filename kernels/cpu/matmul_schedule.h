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

// Into how many shares of PackArgs to cut each of some blocks of rows: enough for many threads,
// which wait for the last one before the product begins.
int PackShares(int64_t num_rows, int64_t num_blocks);

// How a product of many rows is cut: its rows into `row_blocks`, its outputs into blocks of `outs`.
struct ManyRowsCut {
  int64_t row_blocks;
  int64_t outs;
};
ManyRowsCut CutManyRows(int64_t num_rows, std::span<const Projection> projections,
                        const ProductKernels& kernels, int num_threads);

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
