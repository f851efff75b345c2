#pragma once

#include <vector>

#include "kernels/cpu/matmul.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/tensor.h"

namespace mea::cpu {

struct MatMulArgs {
  TensorView x;     // [num_rows, k]
  TensorView w;     // [num_outs, k]
  TensorView bias;  // [num_outs] or absent
  TensorView out;   // [num_rows, num_outs]
};

// Outputs per block of a product with few enough rows to stream its weights, `num_outs` in total:
// several blocks per thread even out the threads' speeds.
int64_t StreamedOuts(int64_t num_outs, int num_threads);

// Cuts a product into blocks of outputs (and of rows, if there are many) and runs them.
class MatMulSchedule {
 public:
  void Run(const MatMulArgs& args, const MatMulKernels& kernels, ThreadPool& pool,
           std::vector<Scratch>& scratch);

 private:
  void RunStreamed(const MatMulArgs& args, const ProductKernels& kernels, ThreadPool& pool);
  void RunPacked(const MatMulArgs& args, const ProductKernels& kernels, ThreadPool& pool,
                 std::vector<Scratch>& scratch);

  Scratch packed_;  // x of the current product
};

}  // namespace mea::cpu
