#include <cublasLt.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "kernels/dtype.h"
#include "tests/simt/stream.h"

struct cublasLtContext {};
struct cublasLtMatrixLayoutOpaque_t {
  cudaDataType type;
  int64_t rows, columns, ld;
  int32_t order = CUBLASLT_ORDER_COL;
  int32_t batch_count = 1;
  int64_t batch_stride = 0;  // elements
};
struct cublasLtMatmulDescOpaque_t {
  int32_t trans_a = CUBLAS_OP_N;
  int32_t trans_b = CUBLAS_OP_N;
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
  int32_t bias_type = -1;  // as D
};
struct cublasLtMatmulPreferenceOpaque_t {
  uint64_t max_workspace_bytes = 0;
  uint32_t reduction_schemes = 7;
  uint32_t alignment[4] = {256, 256, 256, 256};  // of A, B, C, D
};

namespace {

using Layout = cublasLtMatrixLayoutOpaque_t;
using mea::Bf16;
using mea::simt::MemoryKind;
using mea::simt::Runtime;
using Lock = std::lock_guard<std::recursive_mutex>;

constexpr uint64_t kAlgoTag = 0x6d65615f73696d74;  // "mea_simt"
constexpr int kNumAlgos = 3;                       // algorithm i adds up i + 1 parts of K
constexpr size_t kWorkspaceBytes[kNumAlgos] = {0, 1 << 20, 4 << 20};

// Counts as a call that FailCall may fail.
cublasStatus_t Enter() {
  Runtime& r = Runtime::Get();
  const Lock lock(r.mutex);
  return r.Enter() == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INTERNAL_ERROR;
}

template <class T>
cublasStatus_t Store(T& member, const void* value, size_t bytes) {
  if (value == nullptr || bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&member, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

int64_t ElementBytes(cudaDataType type) { return type == CUDA_R_32F ? 4 : 2; }

int64_t Offset(const Layout& l, int64_t row, int64_t column) {
  return l.order == CUBLASLT_ORDER_COL ? row + column * l.ld : row * l.ld + column;
}

// Bytes from the first element to the end of the last.
int64_t Extent(const Layout& l) {
  return ((l.batch_count - 1) * l.batch_stride + Offset(l, l.rows - 1, l.columns - 1) + 1) *
         ElementBytes(l.type);
}

float Load(const void* base, cudaDataType type, int64_t i) {
  return type == CUDA_R_32F ? static_cast<const float*>(base)[i]
                            : mea::ToFloat(static_cast<const Bf16*>(base)[i]);
}

// op(X) as F32 with the index that is summed over innermost: [outer, inner]. `outer_is_row`: of
// op(X).
std::vector<float> Gather(const void* x, const Layout& l, int64_t batch, bool transposed,
                          bool outer_is_row) {
  const bool rows_outer = outer_is_row != transposed;
  const int64_t outer = rows_outer ? l.rows : l.columns, inner = rows_outer ? l.columns : l.rows;
  std::vector<float> out(static_cast<size_t>(outer * inner));
  for (int64_t o = 0; o < outer; ++o) {
    for (int64_t i = 0; i < inner; ++i) {
      const int64_t offset = rows_outer ? Offset(l, o, i) : Offset(l, i, o);
      out[static_cast<size_t>(o * inner + i)] = Load(x, l.type, batch * l.batch_stride + offset);
    }
  }
  return out;
}

float Dot(const float* a, const float* b, int64_t n) {
  constexpr int kLanes = 16;
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int j = 0; j < kLanes; ++j) lanes[j] += a[i + j] * b[i + j];
  }
  float sum = 0;
  for (; i < n; ++i) sum += a[i] * b[i];
  for (const float lane : lanes) sum += lane;
  return sum;
}

struct Matmul {
  cublasLtMatmulDescOpaque_t desc;
  float alpha, beta;
  const void *a, *b, *c;
  void* d;
  Layout a_layout, b_layout, c_layout, d_layout;
  int num_parts;
  void* workspace;
  size_t workspace_bytes;

  void Run() const {
    if (workspace_bytes > 0) std::memset(workspace, 0xff, workspace_bytes);
    for (int64_t batch = 0; batch < d_layout.batch_count; ++batch) RunBatch(batch);
  }

  void RunBatch(int64_t batch) const {
    const auto a_rows = Gather(a, a_layout, batch, desc.trans_a == CUBLAS_OP_T, true);
    const auto b_columns = Gather(b, b_layout, batch, desc.trans_b == CUBLAS_OP_T, false);
    const int64_t m = d_layout.rows, n = d_layout.columns;
    const int64_t k = static_cast<int64_t>(a_rows.size()) / m;
    for (int64_t j = 0; j < n; ++j) {
      for (int64_t i = 0; i < m; ++i) {
        float sum = 0;
        for (int part = 0; part < num_parts; ++part) {
          const int64_t begin = k * part / num_parts, end = k * (part + 1) / num_parts;
          sum += Dot(a_rows.data() + i * k + begin, b_columns.data() + j * k + begin, end - begin);
        }
        Finish(batch, i, j, alpha * sum);
      }
    }
  }

  void Finish(int64_t batch, int64_t row, int64_t column, float value) const {
    if (beta != 0) {
      const int64_t at = batch * c_layout.batch_stride + Offset(c_layout, row, column);
      value += beta * Load(c, c_layout.type, at);
    }
    if (desc.epilogue == CUBLASLT_EPILOGUE_BIAS) {
      const auto type =
          desc.bias_type < 0 ? d_layout.type : static_cast<cudaDataType>(desc.bias_type);
      value += Load(desc.bias, type, row);
    }
    const int64_t at = batch * d_layout.batch_stride + Offset(d_layout, row, column);
    if (d_layout.type == CUDA_R_32F) {
      static_cast<float*>(d)[at] = value;
    } else {
      static_cast<Bf16*>(d)[at] = mea::ToBf16(value);
    }
  }
};

bool LayoutIsSane(const Layout& l) {
  return l.rows > 0 && l.columns > 0 && l.batch_count > 0 &&
         l.ld >= (l.order == CUBLASLT_ORDER_COL ? l.rows : l.columns) &&
         (l.type == CUDA_R_32F || l.type == CUDA_R_16BF);
}

bool ShapesFit(const cublasLtMatmulDescOpaque_t& desc, const Layout& a, const Layout& b,
               const Layout& c, const Layout& d) {
  const auto op_rows = [](const Layout& l, int32_t trans) {
    return trans == CUBLAS_OP_T ? l.columns : l.rows;
  };
  const auto op_columns = [](const Layout& l, int32_t trans) {
    return trans == CUBLAS_OP_T ? l.rows : l.columns;
  };
  for (const Layout* l : {&a, &b, &c, &d}) {
    if (!LayoutIsSane(*l) || l->batch_count != d.batch_count) return false;
  }
  return a.type == b.type && c.type == d.type && op_rows(a, desc.trans_a) == d.rows &&
         op_columns(a, desc.trans_a) == op_rows(b, desc.trans_b) &&
         op_columns(b, desc.trans_b) == d.columns && c.rows == d.rows && c.columns == d.columns;
}

}  // namespace

extern "C" {

const char* cublasLtGetStatusName(cublasStatus_t status) {
  switch (status) {
#define MEA_SIMT_NAME(name) \
  case name:                \
    return #name
    MEA_SIMT_NAME(CUBLAS_STATUS_SUCCESS);
    MEA_SIMT_NAME(CUBLAS_STATUS_NOT_INITIALIZED);
    MEA_SIMT_NAME(CUBLAS_STATUS_ALLOC_FAILED);
    MEA_SIMT_NAME(CUBLAS_STATUS_INVALID_VALUE);
    MEA_SIMT_NAME(CUBLAS_STATUS_ARCH_MISMATCH);
    MEA_SIMT_NAME(CUBLAS_STATUS_MAPPING_ERROR);
    MEA_SIMT_NAME(CUBLAS_STATUS_EXECUTION_FAILED);
    MEA_SIMT_NAME(CUBLAS_STATUS_INTERNAL_ERROR);
    MEA_SIMT_NAME(CUBLAS_STATUS_NOT_SUPPORTED);
    MEA_SIMT_NAME(CUBLAS_STATUS_LICENSE_ERROR);
#undef MEA_SIMT_NAME
  }
  return "unknown";
}

const char* cublasLtGetStatusString(cublasStatus_t status) { return cublasLtGetStatusName(status); }

size_t cublasLtGetVersion() { return 130100; }

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  if (const auto status = Enter()) return status;
  *handle = new cublasLtContext;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                          uint64_t rows, uint64_t columns, int64_t ld) {
  if (const auto status = Enter()) return status;
  *layout = new Layout{.type = type,
                       .rows = static_cast<int64_t>(rows),
                       .columns = static_cast<int64_t>(columns),
                       .ld = ld};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute,
                                                const void* value, size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_TYPE:
      return Store(layout->type, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_ORDER:
      return Store(layout->order, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_ROWS:
      return Store(layout->rows, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_COLS:
      return Store(layout->columns, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_LD:
      return Store(layout->ld, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
      return Store(layout->batch_count, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
      return Store(layout->batch_stride, value, bytes);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc, cublasComputeType_t compute,
                                        cudaDataType_t scale_type) {
  if (const auto status = Enter()) return status;
  if (compute != CUBLAS_COMPUTE_32F || scale_type != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  *desc = new cublasLtMatmulDescOpaque_t;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
  delete desc;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return Store(desc->trans_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return Store(desc->trans_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return Store(desc->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return Store(desc->bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
      return Store(desc->bias_type, value, bytes);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  if (const auto status = Enter()) return status;
  *preference = new cublasLtMatmulPreferenceOpaque_t;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return Store(preference->max_workspace_bytes, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return Store(preference->reduction_schemes, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return Store(preference->alignment[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES],
                   value, bytes);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(
    cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a_layout,
    cublasLtMatrixLayout_t b_layout, cublasLtMatrixLayout_t c_layout,
    cublasLtMatrixLayout_t d_layout, cublasLtMatmulPreference_t preference, int num_requested,
    cublasLtMatmulHeuristicResult_t* results, int* num_found) {
  if (const auto status = Enter()) return status;
  *num_found = 0;
  if (handle == nullptr || num_requested < 1) return CUBLAS_STATUS_INVALID_VALUE;
  if (!ShapesFit(*desc, *a_layout, *b_layout, *c_layout, *d_layout)) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  if (desc->epilogue == CUBLASLT_EPILOGUE_BIAS && desc->bias_type >= 0 &&
      desc->bias_type != d_layout->type) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  for (int i = 0; i < std::min(kNumAlgos, num_requested); ++i) {
    if (kWorkspaceBytes[i] > preference->max_workspace_bytes) break;
    const auto& [a, b, c, d] = preference->alignment;
    results[i] = {.algo = {{kAlgoTag, static_cast<uint64_t>(i), a, b, c, d}},
                  .workspaceSize = kWorkspaceBytes[i],
                  .state = CUBLAS_STATUS_SUCCESS,
                  .wavesCount = 1.0f,
                  .reserved = {}};
    ++*num_found;
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algo,
                              void* workspace, size_t workspace_bytes, cudaStream_t stream) {
  Runtime& r = Runtime::Get();
  const Lock lock(r.mutex);
  if (handle == nullptr || !ShapesFit(*desc, *a_layout, *b_layout, *c_layout, *d_layout)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  // Without an algorithm the library takes the first that its heuristic gives.
  const uint64_t index = algo == nullptr ? 0 : algo->data[1];
  if (algo != nullptr && (algo->data[0] != kAlgoTag || index >= kNumAlgos)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  const void* operands[] = {a, b, c, d};
  for (int i = 0; i < 4; ++i) {
    const uint64_t wanted = algo == nullptr ? 256 : algo->data[2 + i];
    if (reinterpret_cast<uint64_t>(operands[i]) % wanted != 0) return CUBLAS_STATUS_INVALID_VALUE;
  }
  const auto on_device = [&](const void* p, int64_t bytes) {
    return r.memory.Contains(MemoryKind::kDevice, p, bytes);
  };
  const float beta_value = *static_cast<const float*>(beta);
  if (!on_device(a, Extent(*a_layout)) || !on_device(b, Extent(*b_layout)) ||
      !on_device(d, Extent(*d_layout)) || (beta_value != 0 && !on_device(c, Extent(*c_layout))) ||
      workspace_bytes < kWorkspaceBytes[index] ||
      (kWorkspaceBytes[index] > 0 &&
       !on_device(workspace, static_cast<int64_t>(kWorkspaceBytes[index])))) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  const Matmul matmul = {*desc,      *static_cast<const float*>(alpha),
                         beta_value, a,
                         b,          c,
                         d,          *a_layout,
                         *b_layout,  *c_layout,
                         *d_layout,  static_cast<int>(index) + 1,
                         workspace,  kWorkspaceBytes[index]};
  const cudaError_t error = mea::simt::Enqueue(stream, [matmul] { matmul.Run(); });
  return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

}  // extern "C"
