// The token-wise ops of the CPU back end (products, activations, mixes, lookups) against the
// reference, on every instruction set of this machine.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "tests/kernels/gates.h"
#include "tests/kernels/op_support.h"

namespace mea {
namespace {

class CpuLinearTest : public ::testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Backend> backend_ = MakeCpu(GetParam());
  std::unique_ptr<Backend> reference_ = CreateReferenceBackend();
};

TEST_P(CpuLinearTest, MatMulAgreesWithTheReference) {
  struct Shape {
    int64_t rows, outs, k;
  };
  uint64_t seed = 1;
  for (const Shape shape :
       {Shape{1, 1, 1}, Shape{1, 37, 100}, Shape{2, 64, 7}, Shape{3, 19, 515}, Shape{5, 70, 1030},
        Shape{6, 33, 64}, Shape{7, 33, 1}, Shape{12, 38, 530}, Shape{17, 40, 90},
        Shape{64, 65, 520}, Shape{200, 45, 1111}, Shape{391, 32, 48}}) {
    for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF16, DType::kI8, DType::kI4}) {
      for (const bool with_bias : {false, true}) {
        ++seed;
        SCOPED_TRACE(::testing::Message() << shape.rows << "x" << shape.outs << "x" << shape.k
                                          << " " << DTypeName(dtype) << " seed " << seed);
        const bool is_rounded = dtype == DType::kBf16 && MultipliesBf16(GetParam());
        const Tensor x =
            Convert(Random({shape.rows, shape.k}, is_rounded ? DType::kBf16 : DType::kF32, seed),
                    DType::kF32);
        const Tensor w = Random({shape.outs, shape.k}, dtype, seed + 1000);
        const Tensor bias = with_bias ? Random({shape.outs}, DType::kF32, seed + 2000) : Tensor();
        const Tensor actual = Poisoned({shape.rows, shape.outs}, DType::kF32);
        const Tensor expected = Poisoned({shape.rows, shape.outs}, DType::kF64);
        backend_->MatMul(x.view(), {.w = w.view(), .bias = bias.view(), .out = actual.view()});
        reference_->MatMul(Convert(x, DType::kF64).view(),
                           {.w = w.view(), .bias = bias.view(), .out = expected.view()});
        EXPECT_LE(RelativeError(actual.view(), expected.view()),
                  Tolerance::MatMul(dtype, GetParam()));
      }
    }
  }
}

TEST_P(CpuLinearTest, MatMulOfARowDependsOnThatRowAlone) {
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF16, DType::kI8, DType::kI4}) {
    for (const int64_t k : {8, 77, 1100}) {
      const Tensor x = Random({400, k}, DType::kF32, 5);
      const Tensor w = Random({50, k}, dtype, 6);
      const Tensor all = Poisoned({400, 50}, DType::kF32);
      backend_->MatMul(x.view(), {.w = w.view(), .out = all.view()});
      for (const int64_t rows :
           {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 20, 25, 64, 193}) {
        const int64_t first = 400 - rows;
        const Tensor some = Poisoned({rows, 50}, DType::kF32);
        backend_->MatMul(x.view().Rows(first, rows), {.w = w.view(), .out = some.view()});
        EXPECT_TRUE(BitwiseEqual(some.view(), all.view().Rows(first, rows)))
            << DTypeName(dtype) << " k " << k << " rows " << rows;
      }
    }
  }
}

TEST_P(CpuLinearTest, MatMulDoesNotDependOnTheNumberOfThreads) {
  for (const DType dtype : {DType::kBf16, DType::kI8, DType::kI4}) {
    for (const int64_t rows : {1, 12, 40, 530}) {
      const Tensor x = Random({rows, 300}, DType::kF32, 7);
      const Tensor w = Random({203, 300}, dtype, 8);
      const Tensor expected = Poisoned({rows, 203}, DType::kF32);
      MakeCpu(GetParam(), 1)->MatMul(x.view(), {.w = w.view(), .out = expected.view()});
      for (const int num_threads : {2, 5}) {
        const Tensor actual = Poisoned({rows, 203}, DType::kF32);
        MakeCpu(GetParam(), num_threads)->MatMul(x.view(), {.w = w.view(), .out = actual.view()});
        EXPECT_TRUE(BitwiseEqual(actual.view(), expected.view()))
            << DTypeName(dtype) << " rows " << rows << " threads " << num_threads;
      }
    }
  }
}

TEST_P(CpuLinearTest, ProjectionsOfTheSameRowsAreEachAsAlone) {
  for (const int64_t rows : {1, 12, 230}) {
    const Tensor x = Random({rows, 70}, DType::kF32, 11);
    std::vector<Tensor> weights, together;
    std::vector<Projection> projections;
    for (const auto& [outs, dtype] : {std::pair(200, DType::kBf16), std::pair(30, DType::kBf16),
                                      std::pair(140, DType::kI8), std::pair(33, DType::kF32)}) {
      weights.push_back(Random({outs, 70}, dtype, 12 + outs));
      together.push_back(Poisoned({rows, outs}, DType::kF32));
      projections.push_back({.w = weights.back().view(), .out = together.back().view()});
    }
    backend_->MatMul({.x = x.view(), .projections = projections});
    for (size_t i = 0; i < weights.size(); ++i) {
      const Tensor alone = Poisoned({rows, weights[i].view().shape[0]}, DType::kF32);
      backend_->MatMul(x.view(), {.w = weights[i].view(), .out = alone.view()});
      EXPECT_TRUE(BitwiseEqual(together[i].view(), alone.view())) << rows << " rows, matrix " << i;
    }
  }
}

// A matrix right before memory that may not be read.
class GuardedMatrix {
 public:
  explicit GuardedMatrix(const Tensor& from) : view_(from.view()) {
    const int64_t bytes = view_.shape[0] * view_.stride[0] * DTypeSize(view_.dtype);
    const int64_t page = sysconf(_SC_PAGESIZE);
    const int64_t kept = (bytes + page - 1) / page * page;
    size_ = kept + page;
    memory_ = static_cast<char*>(
        mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    EXPECT_NE(memory_, MAP_FAILED);
    EXPECT_EQ(mprotect(memory_ + kept, page, PROT_NONE), 0);
    std::memcpy(memory_ + kept - bytes, view_.data, bytes);
    view_.data = memory_ + kept - bytes;
  }
  GuardedMatrix(const GuardedMatrix&) = delete;
  GuardedMatrix& operator=(const GuardedMatrix&) = delete;
  ~GuardedMatrix() { munmap(memory_, size_); }

  TensorView view() const { return view_; }

 private:
  TensorView view_;
  char* memory_;
  int64_t size_;
};

TEST_P(CpuLinearTest, MatMulReadsNothingBehindItsWeights) {
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF16, DType::kI8, DType::kI4}) {
    for (const int64_t k : {1, 36, 77, 516}) {
      const Tensor w = Random({19, k}, dtype, 14);
      const GuardedMatrix guarded(w);
      for (const int64_t rows : {1, 3, 5, 9, 14, 30}) {
        const Tensor x = Random({rows, k}, DType::kF32, 13);
        const Tensor expected = Poisoned({rows, 19}, DType::kF32);
        const Tensor actual = Poisoned({rows, 19}, DType::kF32);
        backend_->MatMul(x.view(), {.w = w.view(), .out = expected.view()});
        backend_->MatMul(x.view(), {.w = guarded.view(), .out = actual.view()});
        EXPECT_TRUE(BitwiseEqual(actual.view(), expected.view())) << rows << " rows, k " << k;
      }
    }
  }
}

TEST_P(CpuLinearTest, MatMulWritesInsideAWiderTensor) {
  const Tensor x = Random({9, 40}, DType::kF32, 9);
  const Tensor w = Random({10, 30}, DType::kF32, 10);
  const Tensor out = Allocate({9, 20}, DType::kF32);
  backend_->MatMul(x.view().Columns(5, 30), {.w = w.view(), .out = out.view().Columns(4, 10)});
  const Tensor expected = Poisoned({9, 10}, DType::kF64);
  reference_->MatMul(Convert(x, DType::kF64).view().Columns(5, 30),
                     {.w = w.view(), .out = expected.view()});
  for (int row = 0; row < 9; ++row) {
    for (int column = 0; column < 20; ++column) {
      const bool inside = column >= 4 && column < 14;
      const double value = inside ? expected.view().row<double>(row)[column - 4] : 0.0;
      EXPECT_NEAR(out.view().row<float>(row)[column], value, 1e-4);
    }
  }
}

TEST_P(CpuLinearTest, GatesAgreeWithTheReference) {
  for (const GateOp& op : kGates) {
    for (const int64_t width : {1, 16, 37, 2048}) {
      for (const double scale : {1.0, 40.0}) {
        SCOPED_TRACE(::testing::Message() << op.name << " width " << width << " scale " << scale);
        const Tensor gate = Random({9, width}, DType::kF32, 60 + width, scale);
        const Tensor up = Random({9, width}, DType::kF32, 61 + width);
        const Tensor expected = Poisoned({9, width}, DType::kF64);
        op.call(*reference_, Convert(gate, DType::kF64).view(), Convert(up, DType::kF64).view(),
                expected.view());
        op.call(*backend_, gate.view(), up.view(), gate.view());
        EXPECT_LE(RelativeError(gate.view(), expected.view()), Tolerance::kGate);
      }
    }
  }
}

TEST_P(CpuLinearTest, ANaNOfAGateStaysVisibleInItsRow) {
  const Tensor up = Random({2, 37}, DType::kF32, 61);
  for (const GateOp& op : kGates) {
    const Tensor gate = Random({2, 37}, DType::kF32, 60);
    for (const int column : {0, 36}) {
      gate.view().row<float>(1)[column] = std::numeric_limits<float>::quiet_NaN();
    }
    op.call(*backend_, gate.view(), up.view(), gate.view());
    for (int column = 0; column < 37; ++column) {
      EXPECT_FALSE(std::isnan(gate.view().row<float>(0)[column])) << op.name;
      EXPECT_EQ(std::isnan(gate.view().row<float>(1)[column]), column % 36 == 0) << op.name;
    }
  }
}

TEST_P(CpuLinearTest, GatesOfARowDependOnThatRowAlone) {
  const Tensor gate = Random({35, 37}, DType::kF32, 62, 2.0);
  const Tensor up = Random({35, 37}, DType::kF32, 63);
  for (const GateOp& op : kGates) {
    const Tensor all = Poisoned({35, 37}, DType::kF32);
    const Tensor last = Poisoned({1, 37}, DType::kF32);
    op.call(*MakeCpu(GetParam(), 5), gate.view(), up.view(), all.view());
    op.call(*MakeCpu(GetParam(), 1), gate.view().Rows(34, 1), up.view().Rows(34, 1), last.view());
    EXPECT_TRUE(BitwiseEqual(last.view(), all.view().Rows(34, 1))) << op.name;
  }
}

TEST_P(CpuLinearTest, ActivationsOfExtremesAreFinite) {
  const float gates[] = {-1e30f, -200.0f, 200.0f, 1e30f};
  const Tensor gate = Allocate({1, 4}, DType::kF32);
  const Tensor up = Allocate({1, 4}, DType::kF32);
  std::copy_n(gates, 4, gate.view().as<float>());
  std::fill_n(up.view().as<float>(), 4, 1.0f);
  for (const Activation activation : {Activation::kSilu, Activation::kGeluTanh}) {
    const Tensor out = Poisoned({1, 4}, DType::kF32);
    backend_->GatedActivation(
        {.gate = gate.view(), .up = up.view(), .activation = activation, .out = out.view()});
    EXPECT_NEAR(out.view().as<float>()[0], 0.0f, 1e-7f);
    EXPECT_NEAR(out.view().as<float>()[1], 0.0f, 1e-7f);
    EXPECT_EQ(out.view().as<float>()[2], 200.0f);
    EXPECT_EQ(out.view().as<float>()[3], 1e30f);
  }
}

TEST_P(CpuLinearTest, MixHeadsAgreesWithTheReferenceRowByRow) {
  for (const int64_t head_dim : {2, 24, 64}) {
    for (const int64_t out_heads : {1, 6, 11}) {
      const Tensor x = Random({19, 5, head_dim}, DType::kF32, 1);
      const Tensor mix = Random({5, out_heads}, DType::kF32, 2);
      const Tensor expected = Poisoned({19, out_heads, head_dim}, DType::kF64);
      const Tensor actual = Poisoned({19, out_heads, head_dim}, DType::kF32);
      reference_->MixHeads(
          {.x = Convert(x, DType::kF64).view(), .mix = mix.view(), .out = expected.view()});
      backend_->MixHeads({.x = x.view(), .mix = mix.view(), .out = actual.view()});
      EXPECT_LE(RelativeError(actual.view(), expected.view()), Tolerance::kRowwise);
      const Tensor last = Poisoned({1, out_heads, head_dim}, DType::kF32);
      backend_->MixHeads({.x = x.view().Rows(18, 1), .mix = mix.view(), .out = last.view()});
      EXPECT_TRUE(BitwiseEqual(last.view(), actual.view().Rows(18, 1)));
    }
  }
}

TEST_P(CpuLinearTest, EmbedWidens) {
  const Tensor ids = Ints({3, 0, 10, 3});
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF16, DType::kI8, DType::kI4}) {
    const Tensor table = Random({11, 21}, dtype, 70);
    const Tensor out = Poisoned({4, 21}, DType::kF32);
    const Tensor expected = Poisoned({4, 21}, DType::kF64);
    backend_->Embed({.table = table.view(), .ids = ids.view(), .out = out.view()});
    reference_->Embed({.table = table.view(), .ids = ids.view(), .out = expected.view()});
    // A scale times an integer is rounded.
    EXPECT_LE(RelativeError(out.view(), expected.view()), dtype == DType::kI8 ? 1e-7 : 0.0);

    backend_->Embed({.table = table.view(), .ids = ids.view(), .scale = 27.7f, .out = out.view()});
    reference_->Embed(
        {.table = table.view(), .ids = ids.view(), .scale = 27.7f, .out = expected.view()});
    EXPECT_LE(RelativeError(out.view(), expected.view()), 1e-7);
  }
}

TEST_P(CpuLinearTest, GatherRowsCopiesRows) {
  const Tensor x = Random({7, 12}, DType::kF32, 80);
  const Tensor rows = Ints({6, 2, 2});
  const Tensor out = Poisoned({3, 12}, DType::kF32);
  backend_->GatherRows({.x = x.view(), .rows = rows.view(), .out = out.view()});
  EXPECT_TRUE(BitwiseEqual(out.view().Rows(0, 1), x.view().Rows(6, 1)));
  EXPECT_TRUE(BitwiseEqual(out.view().Rows(2, 1), x.view().Rows(2, 1)));
}

INSTANTIATE_TEST_SUITE_P(Targets, CpuLinearTest, ::testing::ValuesIn(CpuTargets()),
                         [](const auto& test) { return test.param; });

TEST(CpuBackendTest, UnknownTargetIsRefusedWithTheAvailableOnes) {
  setenv("MEA_CPU_TARGET", "AVX17", 1);
  const auto backend = CreateCpuBackend();
  unsetenv("MEA_CPU_TARGET");
  ASSERT_EQ(backend.status().code(), absl::StatusCode::kInvalidArgument);
  const std::string message(backend.status().message());
  EXPECT_NE(message.find("AVX17"), std::string::npos);
  for (const std::string& target : CpuTargets()) {
    EXPECT_NE(message.find(target), std::string::npos) << message;
  }
}

TEST(CpuBackendTest, NegativeNumberOfThreadsIsRefused) {
  EXPECT_EQ(CreateCpuBackend({.num_threads = -1}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace mea
