#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/matmul.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/cpu/thread_runs.h"
#include "kernels/ops/linear.h"

namespace mea::cpu {

// Outputs per block of a product with few enough rows to stream its weights, `num_outs` in total,
// a multiple of few_outs: at least two blocks per thread, of at most few_bytes, even out the
// threads' speeds.
int64_t StreamedOuts(int64_t num_outs, int64_t row_bytes, const ProductKernels& kernels,
                     int num_threads);

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

// From one row of weights to the next.
int64_t RowBytesOf(const TensorView& w);
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
  Scratch packed_;   // x of the current products
  ThreadRuns runs_;  // of blocks of streamed weights
};

}  // namespace mea::cpu
