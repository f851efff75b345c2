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

// Outputs of one block of a product whose rows are few enough to stream its weights, `num_outs` in
// all: several blocks for each thread even out their speeds.
int64_t StreamedOuts(int64_t num_outs, int num_threads);

// Cuts a product into blocks of outputs (and of rows, where there are many) and runs them.
class MatMulSchedule {
 public:
  void Run(const MatMulArgs& args, const MatMulKernels& kernels, ThreadPool& pool,
           std::vector<Scratch>& scratch);

 private:
  void RunStreamed(const MatMulArgs& args, const ProductKernels& kernels, ThreadPool& pool);
  void RunPacked(const MatMulArgs& args, const ProductKernels& kernels, ThreadPool& pool,
                 std::vector<Scratch>& scratch);

  Scratch packed_;  // x of the product at work
};

}  // namespace mea::cpu
