// Threads in clusters of a machine that this one need not be: what they compute is what one does.
#include <gtest/gtest.h>

#include "kernels/thread_plan.h"
#include "tests/kernels/op_support.h"

namespace mea {
namespace {

// Eight clusters of two threads.
ThreadPlan Chiplets() {
  ThreadPlan plan = AnyThreads(16);
  for (int i = 0; i < 16; ++i) plan.threads[i].cluster = i / 2;
  return plan;
}

TEST(ClustersTest, ProductsDoNotDependOnThem) {
  const std::unique_ptr<Backend> one = CreateCpuBackend({.num_threads = 1}).value();
  const std::unique_ptr<Backend> many = CreateCpuBackend(Chiplets()).value();
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kI8}) {
    for (const int64_t rows : {1, 17, 400}) {  // streamed, packed, in three blocks
      SCOPED_TRACE(rows);
      const Tensor x = Random({rows, 96}, DType::kF32, 1);
      std::vector<Tensor> weights, expected, actual;
      for (const int64_t outs : {37, 5, 160}) {
        weights.push_back(Random({outs, 96}, dtype, 2 + outs));
        expected.push_back(Poisoned({rows, outs}, DType::kF32));
        actual.push_back(Poisoned({rows, outs}, DType::kF32));
      }
      const auto run = [&](Backend& backend, const std::vector<Tensor>& outs) {
        std::vector<Projection> projections;
        for (size_t i = 0; i < outs.size(); ++i) {
          projections.push_back({.w = weights[i].view(), .bias = {}, .out = outs[i].view()});
        }
        backend.MatMul({.x = x.view(), .projections = projections});
      };
      run(*one, expected);
      for (int round = 0; round < 3; ++round) {
        run(*many, actual);
        for (size_t i = 0; i < weights.size(); ++i) {
          EXPECT_TRUE(BitwiseEqual(actual[i].view(), expected[i].view())) << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace mea
