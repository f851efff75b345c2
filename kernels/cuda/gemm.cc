#include "kernels/cuda/gemm.h"

#include <algorithm>
#include <limits>

#include "kernels/cuda/linear/skinny_gemm.h"
#include "kernels/cuda/narrow.h"
#include "kernels/status_macros.h"

namespace mea::cuda {
namespace {

constexpr int kMaxCandidates = 8;
constexpr int kTimedRuns = 3;
// Chunks of prompts come in all sizes. Each shape keeps a plan of some hundred bytes.
constexpr size_t kMaxPlans = 4096;
constexpr uint32_t kVectorBytes = 16;     // of one load
constexpr uint32_t kMostAlignment = 256;  // that the library asks for

uint32_t AlignmentOf(const void* address, int64_t stride_bytes = 0) {
  const uint64_t bits =
      reinterpret_cast<uint64_t>(address) | static_cast<uint64_t>(stride_bytes) | kMostAlignment;
  return static_cast<uint32_t>(bits & (~bits + 1));
}

template <typename Opaque>
using Owned = std::unique_ptr<Opaque, cublasStatus_t (*)(Opaque*)>;

}  // namespace

struct Gemm::Operands {
  const void* x;
  const void* w;
  const void* bias;  // in the dtype of the output, or null
  void* out;
};

// As cuBLASLt reads them, column by column: D = A^T B with A = w [k, n], B = x [k, m], D = out [n,
// m].
struct Gemm::Plan {
  explicit Plan(const CublasLt& lt)
      : desc(nullptr, lt.MatmulDescDestroy),
        a(nullptr, lt.MatrixLayoutDestroy),
        b(nullptr, lt.MatrixLayoutDestroy),
        d(nullptr, lt.MatrixLayoutDestroy) {}

  Owned<std::remove_pointer_t<cublasLtMatmulDesc_t>> desc;
  Owned<std::remove_pointer_t<cublasLtMatrixLayout_t>> a, b, d;
  cublasLtMatmulAlgo_t algorithm{};
  bool was_searched = false;
};

absl::StatusOr<std::unique_ptr<Gemm>> Gemm::Create(Runtime* runtime, Options options) {
  MEA_ASSIGN_OR_RETURN(const CublasLt lt, OpenCublasLt());
  std::unique_ptr<Gemm> gemm(new Gemm(runtime, options, lt));
  MEA_RETURN_IF_ERROR(gemm->Start());
  return gemm;
}

Gemm::Gemm(Runtime* runtime, Options options, const CublasLt& lt)
    : runtime_(runtime), options_(options), lt_(lt) {}

absl::Status Gemm::Start() {
  if (runtime_->Begin("start of cuBLASLt") && Check(lt_.Create(&handle_)) &&
      runtime_->Check(cudaEventCreate(&start_))) {
    runtime_->Check(cudaEventCreate(&end_));
  }
  return runtime_->status();
}

Gemm::~Gemm() {
  plans_.clear();
  if (end_ != nullptr) cudaEventDestroy(end_);
  if (start_ != nullptr) cudaEventDestroy(start_);
  if (handle_ != nullptr) lt_.Destroy(handle_);
}

bool Gemm::Check(cublasStatus_t status) {
  if (status == CUBLAS_STATUS_SUCCESS) return true;
  runtime_->Fail(lt_.GetStatusName(status));
  return false;
}

Gemm::Scratch Gemm::Carve(std::span<const ProductShape> products, int64_t workspace_bytes,
                          Carver& carver) {
  Scratch scratch;
  for (const auto& [out, in] : products) {
    scratch.max_outputs = std::max<int64_t>(scratch.max_outputs, out);
    scratch.max_partials = std::max(scratch.max_partials, SkinnyGemmPartials(out, in));
    scratch.max_tickets = std::max(scratch.max_tickets, SkinnyGemmTickets(out, in));
  }
  scratch.workspace = carver.Take(workspace_bytes);
  scratch.bias = carver.Take<Bf16>(scratch.max_outputs);
  scratch.partials = carver.Take<float>(scratch.max_partials);
  scratch.tickets = carver.Take<int>(scratch.max_tickets);
  return scratch;
}

void Gemm::Run(TensorView x, const Projection& projection) {
  if (x.shape[0] == 0 || projection.w.shape[0] == 0) return;
  if (!RunSkinny(x, projection)) RunCublas(x, projection);
}

// False where the kernel does not take it.
bool Gemm::RunSkinny(TensorView x, const Projection& projection) {
  const auto& [w, bias, out] = projection;
  const int out_features = static_cast<int>(w.shape[0]);
  const int in_features = static_cast<int>(w.shape[1]);
  const uint32_t alignment =
      std::min(AlignmentOf(x.data, x.stride[0] * 2), AlignmentOf(w.data, w.stride[0] * 2));
  if (x.shape[0] > kMaxSkinnyRows || in_features % 8 != 0 || alignment < kVectorBytes ||
      SkinnyGemmPartials(out_features, in_features) > scratch_.max_partials ||
      SkinnyGemmTickets(out_features, in_features) > scratch_.max_tickets) {
    return false;
  }
  const bool is_wide = out.dtype == DType::kF32;
  runtime_->Check(LaunchSkinnyGemm({.x = x.as<Bf16>(),
                                    .x_stride = x.stride[0],
                                    .w = w.as<Bf16>(),
                                    .w_stride = w.stride[0],
                                    .bias = bias.empty() ? nullptr : bias.as<float>(),
                                    .out = is_wide ? nullptr : out.as<Bf16>(),
                                    .out_f32 = is_wide ? out.as<float>() : nullptr,
                                    .out_stride = out.stride[0],
                                    .partials = scratch_.partials,
                                    .tickets = scratch_.tickets,
                                    .num_rows = static_cast<int>(x.shape[0]),
                                    .in_features = in_features,
                                    .out_features = out_features},
                                   runtime_->stream()));
  return true;
}

void Gemm::RunCublas(TensorView x, const Projection& projection) {
  const auto& [w, bias, out] = projection;
  const bool is_wide = out.dtype == DType::kF32;
  Operands operands{.x = x.data, .w = w.data, .bias = bias.data, .out = out.data};
  if (!bias.empty() && !is_wide) {
    // The library adds a bias only if it has the dtype of the output.
    MEA_CHECK(w.shape[0] <= scratch_.max_outputs);
    operands.bias = scratch_.bias;
    const NarrowParams params{
        .from = bias.as<float>(), .to = scratch_.bias, .count = static_cast<int>(w.shape[0])};
    if (!runtime_->Check(LaunchNarrow(params, runtime_->stream()))) return;
  }
  const Shape shape{.m = x.shape[0],
                    .n = w.shape[0],
                    .k = w.shape[1],
                    .x_stride = x.stride[0],
                    .w_stride = w.stride[0],
                    .out_stride = out.stride[0],
                    .alignment = std::min({AlignmentOf(x.data), AlignmentOf(w.data),
                                           AlignmentOf(operands.bias), AlignmentOf(out.data)}),
                    .out_is_f32 = is_wide,
                    .has_bias = !bias.empty()};
  const Plan* plan = FindPlan(shape, operands);
  if (plan == nullptr) return;
  // Shapes are shared by layers, biases are not.
  if (shape.has_bias && !SetDesc(*plan, CUBLASLT_MATMUL_DESC_BIAS_POINTER, operands.bias)) return;
  Check(Launch(*plan, operands));
}

const Gemm::Plan* Gemm::FindPlan(const Shape& shape, const Operands& operands) {
  if (const auto found = plans_.find(shape); found != plans_.end()) return found->second.get();
  if (plans_.size() >= kMaxPlans) ForgetSome();
  auto plan = std::make_unique<Plan>(lt_);
  if (!Describe(shape, *plan) || !ChooseAlgorithm(shape, operands, *plan)) return nullptr;
  return plans_.emplace(shape, std::move(plan)).first->second.get();
}

// A searched plan is kept: another search might choose another algorithm.
void Gemm::ForgetSome() {
  std::erase_if(plans_, [](const auto& entry) { return !entry.second->was_searched; });
}

bool Gemm::Describe(const Shape& shape, Plan& plan) {
  const auto layout = [&](auto& owned, cudaDataType_t type, int64_t rows, int64_t columns,
                          int64_t stride) {
    cublasLtMatrixLayout_t made = nullptr;
    const bool ok = Check(lt_.MatrixLayoutCreate(&made, type, rows, columns, stride));
    if (ok) owned.reset(made);
    return ok;
  };
  const cudaDataType_t out_type = shape.out_is_f32 ? CUDA_R_32F : CUDA_R_16BF;
  cublasLtMatmulDesc_t desc = nullptr;
  if (!layout(plan.a, CUDA_R_16BF, shape.k, shape.n, shape.w_stride) ||
      !layout(plan.b, CUDA_R_16BF, shape.k, shape.m, shape.x_stride) ||
      !layout(plan.d, out_type, shape.n, shape.m, shape.out_stride) ||
      !Check(lt_.MatmulDescCreate(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F))) {
    return false;
  }
  plan.desc.reset(desc);
  const int32_t transposed = CUBLAS_OP_T;
  if (!SetDesc(plan, CUBLASLT_MATMUL_DESC_TRANSA, transposed)) return false;
  if (!shape.has_bias) return true;
  const uint32_t epilogue = CUBLASLT_EPILOGUE_BIAS;
  const int32_t bias_type = out_type;
  return SetDesc(plan, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue) &&
         SetDesc(plan, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, bias_type);
}

template <typename T>
bool Gemm::SetDesc(const Plan& plan, cublasLtMatmulDescAttributes_t attribute, const T& value) {
  return Check(lt_.MatmulDescSetAttribute(plan.desc.get(), attribute, &value, sizeof(value)));
}

std::vector<cublasLtMatmulHeuristicResult_t> Gemm::Candidates(const Shape& shape,
                                                              const Plan& plan) {
  cublasLtMatmulPreference_t made = nullptr;
  if (!Check(lt_.MatmulPreferenceCreate(&made))) return {};
  const Owned<std::remove_pointer_t<cublasLtMatmulPreference_t>> preference(
      made, lt_.MatmulPreferenceDestroy);
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    return Check(lt_.MatmulPreferenceSetAttribute(made, attribute, &value, sizeof(value)));
  };
  const uint64_t workspace_bytes = options_.workspace_bytes;
  // Partial sums of several blocks are added in F32, never in the dtype of the output.
  const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
  if (!prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_bytes) ||
      !prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, reductions) ||
      !prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, shape.alignment) ||
      !prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, shape.alignment) ||
      !prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, shape.alignment) ||
      !prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, shape.alignment)) {
    return {};
  }
  std::vector<cublasLtMatmulHeuristicResult_t> results(kMaxCandidates);
  int count = 0;
  if (!Check(lt_.MatmulAlgoGetHeuristic(handle_, plan.desc.get(), plan.a.get(), plan.b.get(),
                                        plan.d.get(), plan.d.get(), made, kMaxCandidates,
                                        results.data(), &count))) {
    return {};
  }
  results.resize(count);
  std::erase_if(results, [](const auto& r) { return r.state != CUBLAS_STATUS_SUCCESS; });
  // What the heuristic itself returns if it finds nothing.
  if (results.empty()) Check(CUBLAS_STATUS_NOT_SUPPORTED);
  return results;
}

bool Gemm::ChooseAlgorithm(const Shape& shape, const Operands& operands, Plan& plan) {
  if (shape.has_bias && !SetDesc(plan, CUBLASLT_MATMUL_DESC_BIAS_POINTER, operands.bias)) {
    return false;
  }
  const std::vector<cublasLtMatmulHeuristicResult_t> candidates = Candidates(shape, plan);
  if (candidates.empty()) return false;
  plan.algorithm = candidates.front().algo;
  const bool is_searched =
      options_.search && is_searched_(static_cast<int>(shape.m)) && !runtime_->makes_graph();
  if (!is_searched || candidates.size() == 1) return true;
  plan.was_searched = true;
  ++runtime_->counters().product_searches;
  float least = std::numeric_limits<float>::infinity();
  cublasLtMatmulAlgo_t fastest = plan.algorithm;
  for (const cublasLtMatmulHeuristicResult_t& candidate : candidates) {
    plan.algorithm = candidate.algo;
    // The first run loads the kernel. A candidate that fails to run is skipped.
    if (Launch(plan, operands) != CUBLAS_STATUS_SUCCESS) continue;
    const float milliseconds = Time(plan, operands);
    if (!runtime_->ok()) return false;
    if (milliseconds >= least) continue;
    least = milliseconds;
    fastest = candidate.algo;
  }
  plan.algorithm = fastest;
  return true;
}

float Gemm::Time(const Plan& plan, const Operands& operands) {
  float least = std::numeric_limits<float>::infinity();
  for (int run = 0; run < kTimedRuns; ++run) {
    float milliseconds = 0;
    if (!runtime_->Check(cudaEventRecord(start_, runtime_->stream())) ||
        !Check(Launch(plan, operands)) ||
        !runtime_->Check(cudaEventRecord(end_, runtime_->stream())) ||
        !runtime_->Check(cudaEventSynchronize(end_)) ||
        !runtime_->Check(cudaEventElapsedTime(&milliseconds, start_, end_))) {
      return least;
    }
    least = std::min(least, milliseconds);
  }
  return least;
}

cublasStatus_t Gemm::Launch(const Plan& plan, const Operands& operands) {
  const float one = 1;
  const float zero = 0;
  return lt_.Matmul(handle_, plan.desc.get(), &one, operands.w, plan.a.get(), operands.x,
                    plan.b.get(), &zero, operands.out, plan.d.get(), operands.out, plan.d.get(),
                    &plan.algorithm, scratch_.workspace, options_.workspace_bytes,
                    runtime_->stream());
}

}  // namespace mea::cuda
