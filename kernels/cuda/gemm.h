#pragma once

#include <cuda_runtime_api.h>

#include <compare>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/cuda/carver.h"
#include "kernels/cuda/cublas_lt.h"
#include "kernels/cuda/runtime.h"

namespace mea::cuda {

// out = x w^T + bias in BF16 with sums in F32. Up to kMaxSkinnyRows rows go to our own kernel,
// where a row's result depends on that row alone; more go to cuBLASLt, with one algorithm for each
// shape (strides and alignment are part of it), chosen once and kept. So a product depends only on
// its operands and its shape, but a row may differ in its last bits with the number of rows.
class Gemm {
 public:
  struct Options {
    // Times the candidates for a shape on its operands and keeps the fastest; otherwise the
    // library's first choice is taken.
    bool search = true;
    int64_t workspace_bytes = 0;  // that the library may use
  };

  static absl::StatusOr<std::unique_ptr<Gemm>> Create(Runtime* runtime, Options options);
  ~Gemm();
  Gemm(const Gemm&) = delete;
  Gemm& operator=(const Gemm&) = delete;

  // Device memory for products of these shapes, owned by the caller and zero at first; the library
  // may use workspace_bytes of it.
  struct Scratch {
    std::byte* workspace = nullptr;  // [workspace_bytes]
    Bf16* bias = nullptr;            // [max_outputs]
    float* partials = nullptr;       // [max_partials], of the skinny kernel
    int* tickets = nullptr;          // [max_tickets], likewise
    int64_t max_outputs = 0;
    int64_t max_partials = 0;
    int64_t max_tickets = 0;
  };
  static Scratch Carve(std::span<const ProductShape> products, int64_t workspace_bytes,
                       Carver& carver);
  // `is_searched`: whether products of so many rows recur often enough to be worth a search.
  void Prepare(const Scratch& scratch, std::function<bool(int)> is_searched) {
    scratch_ = scratch;
    is_searched_ = std::move(is_searched);
  }

  // Within an op of the runtime. Shapes and dtypes have passed the op's checks; weights are BF16.
  void Run(TensorView x, const Projection& projection);

 private:
  struct Shape {
    int64_t m, n, k;
    int64_t x_stride, w_stride, out_stride;
    uint32_t alignment;  // bytes, of every operand: a power of two up to 256
    bool out_is_f32;
    bool has_bias;
    auto operator<=>(const Shape&) const = default;
  };
  struct Operands;
  struct Plan;

  Gemm(Runtime* runtime, Options options, const CublasLt& lt);
  absl::Status Start();
  bool Check(cublasStatus_t status);

  bool RunSkinny(TensorView x, const Projection& projection);
  void RunCublas(TensorView x, const Projection& projection);
  // Null after a failure, which the runtime remembers.
  const Plan* FindPlan(const Shape& shape, const Operands& operands);
  bool Describe(const Shape& shape, Plan& plan);
  template <typename T>
  bool SetDesc(const Plan& plan, cublasLtMatmulDescAttributes_t attribute, const T& value);
  // Best first by the library's estimate; none after a failure.
  std::vector<cublasLtMatmulHeuristicResult_t> Candidates(const Shape& shape, const Plan& plan);
  bool ChooseAlgorithm(const Shape& shape, const Operands& operands, Plan& plan);
  cublasStatus_t Launch(const Plan& plan, const Operands& operands);
  // Milliseconds of the fastest of a few runs.
  float Time(const Plan& plan, const Operands& operands);
  void ForgetSome();

  Runtime* const runtime_;
  const Options options_;
  const CublasLt lt_;
  cublasLtHandle_t handle_ = nullptr;
  cudaEvent_t start_ = nullptr;
  cudaEvent_t end_ = nullptr;
  std::map<Shape, std::unique_ptr<Plan>> plans_;
  Scratch scratch_;
  std::function<bool(int)> is_searched_;
};

}  // namespace mea::cuda
