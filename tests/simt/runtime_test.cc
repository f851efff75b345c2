// The runtime's promises that a back end may break: order, completion, capture, errors; and
// cuBLASLt against a plain loop.
#include <cublasLt.h>
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/cuda/device/launch.h"
#include "kernels/dtype.h"
#include "tests/simt/device_vector.h"
#include "tests/simt/dlfcn.h"
#include "tests/simt/machine.h"

namespace mea::simt {
namespace {

struct AddParams {
  int* x;
  int value;
};
void Add(AddParams p) { p.x[threadIdx.x] += p.value; }

cudaError_t LaunchAdd(AddParams params, cudaStream_t stream) {
  return cuda::Launch({.grid = 1, .block = 32, .stream = stream}, Add, params);
}

class RuntimeTest : public testing::Test {
 protected:
  RuntimeTest() { ResetMachine(); }
  ~RuntimeTest() override { EXPECT_EQ(NumLiveObjects(), 0); }
};

TEST_F(RuntimeTest, WorkRunsInOrderWhenTheHostWaits) {
  cudaStream_t stream;
  ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  int *device, *host;
  ASSERT_EQ(cudaMalloc(&device, 32 * sizeof(int)), cudaSuccess);
  ASSERT_EQ(cudaMallocHost(&host, 32 * sizeof(int)), cudaSuccess);
  EXPECT_EQ(cudaMemsetAsync(device, 0, 32 * sizeof(int), stream), cudaSuccess);
  EXPECT_EQ(LaunchAdd({device, 5}, stream), cudaSuccess);
  EXPECT_EQ(cudaMemcpyAsync(host, device, 32 * sizeof(int), cudaMemcpyDeviceToHost, stream),
            cudaSuccess);
  EXPECT_EQ(host[7], -1);  // poisoned: nobody has waited
  EXPECT_EQ(NumKernels(), 0);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(host[7], 5);
  EXPECT_EQ(NumKernels(), 1);

  // Pinned memory is read when the stream gets there; pageable memory at once.
  int pageable = 30;
  host[0] = 10;
  EXPECT_EQ(cudaMemcpyAsync(device, host, 4, cudaMemcpyHostToDevice, stream), cudaSuccess);
  EXPECT_EQ(cudaMemcpyAsync(device + 1, &pageable, 4, cudaMemcpyHostToDevice, stream), cudaSuccess);
  host[0] = 20;
  pageable = 40;
  int got[2];
  EXPECT_EQ(cudaMemcpyAsync(got, device, 8, cudaMemcpyDeviceToHost, stream), cudaSuccess);
  EXPECT_EQ(got[0], 20);
  EXPECT_EQ(got[1], 30);
  EXPECT_EQ(cudaFree(device), cudaSuccess);
  EXPECT_EQ(cudaFreeHost(host), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

TEST_F(RuntimeTest, AnEventOrdersTwoStreams) {
  cudaStream_t first, second;
  cudaEvent_t event;
  ASSERT_EQ(cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cudaEventCreate(&event), cudaSuccess);
  {
    DeviceVector<int> x(std::vector<int>(32, 1));
    for (const bool with_event : {true, false}) {
      cudaMemset(x.data(), 0, 128);
      cudaDeviceSynchronize();
      EXPECT_EQ(LaunchAdd({x.data(), 3}, first), cudaSuccess);
      EXPECT_EQ(cudaEventRecord(event, first), cudaSuccess);
      if (with_event) {
        EXPECT_EQ(cudaStreamWaitEvent(second, event), cudaSuccess);
      }
      int got = 0;
      EXPECT_EQ(cudaMemcpyAsync(&got, x.data(), 4, cudaMemcpyDeviceToHost, second), cudaSuccess);
      EXPECT_EQ(got, with_event ? 3 : 0);
    }
  }
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(first), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(second), cudaSuccess);
}

TEST_F(RuntimeTest, AGraphReplaysWhatWasCaptured) {
  cudaStream_t stream;
  ASSERT_EQ(cudaStreamCreate(&stream), cudaSuccess);
  {
    DeviceVector<int> x(std::vector<int>(32, 0));
    AddParams params = {x.data(), 2};
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), cudaSuccess);
    EXPECT_EQ(LaunchAdd(params, stream), cudaSuccess);
    EXPECT_EQ(LaunchAdd(params, stream), cudaSuccess);
    params.value = 100;  // copied above
    ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
    size_t num_nodes = 0;
    EXPECT_EQ(cudaGraphGetNodes(graph, nullptr, &num_nodes), cudaSuccess);
    EXPECT_EQ(num_nodes, 2u);
    ASSERT_EQ(cudaGraphInstantiate(&exec, graph), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    EXPECT_EQ(x.ToHost()[3], 0);  // capture runs nothing
    for (int i = 0; i < 3; ++i) EXPECT_EQ(cudaGraphLaunch(exec, stream), cudaSuccess);
    EXPECT_EQ(x.ToHost()[3], 12);
    EXPECT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
  }
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

TEST_F(RuntimeTest, WaitingOrAllocatingInACaptureSpoilsIt) {
  cudaStream_t stream;
  ASSERT_EQ(cudaStreamCreate(&stream), cudaSuccess);
  for (const bool allocates : {false, true}) {
    cudaGraph_t graph;
    ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), cudaSuccess);
    int* memory = nullptr;
    EXPECT_EQ(allocates ? cudaMalloc(&memory, 4) : cudaStreamSynchronize(stream),
              cudaErrorStreamCaptureUnsupported);
    EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
    EXPECT_EQ(graph, nullptr);
    cudaGetLastError();
  }
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

TEST_F(RuntimeTest, ACopyWhoseKindIsNotItsMemoryIsRefused) {
  DeviceVector<int> x(4);
  int host[4] = {};
  EXPECT_EQ(cudaMemcpy(host, x.data(), 16, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(x.data(), host, 16, cudaMemcpyDeviceToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(x.data(), host, 20, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST_F(RuntimeTest, LaunchesThatFitNoDeviceAreRefused) {
  ResetMachine({.major = 8});
  DeviceVector<int> x(32);
  const AddParams params = {x.data(), 1};
  EXPECT_EQ(cuda::Launch({.grid = 1, .block = 1025}, Add, params), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cuda::Launch({.grid = 0, .block = 32}, Add, params), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cuda::Launch({.grid = dim3(1, 65536), .block = 32}, Add, params),
            cudaErrorInvalidConfiguration);
  EXPECT_EQ(cuda::Launch({.grid = 1, .block = 32, .shared_bytes = 164 << 10}, Add, params),
            cudaErrorInvalidValue);
}

TEST_F(RuntimeTest, MemoryEnds) {
  ResetMachine({.memory_bytes = 1 << 20});
  void *first, *second;
  ASSERT_EQ(cudaMalloc(&first, 700 << 10), cudaSuccess);
  EXPECT_EQ(cudaMalloc(&second, 700 << 10), cudaErrorMemoryAllocation);
  size_t free_bytes, total_bytes;
  EXPECT_EQ(cudaMemGetInfo(&free_bytes, &total_bytes), cudaSuccess);
  EXPECT_EQ(free_bytes, size_t{324} << 10);
  EXPECT_EQ(total_bytes, size_t{1} << 20);
  EXPECT_EQ(cudaFree(first), cudaSuccess);
  EXPECT_EQ(cudaFree(first), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMalloc(&second, 700 << 10), cudaSuccess);
  EXPECT_EQ(cudaFree(second), cudaSuccess);
}

TEST_F(RuntimeTest, TheDeviceIsAsTheTestSays) {
  ResetMachine({.num_sms = 7, .major = 8, .minor = 0});
  cudaDeviceProp properties;
  ASSERT_EQ(cudaGetDeviceProperties(&properties, 0), cudaSuccess);
  EXPECT_EQ(properties.major, 8);
  EXPECT_EQ(properties.multiProcessorCount, 7);
  int value = 0;
  EXPECT_EQ(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0),
            cudaSuccess);
  EXPECT_EQ(value, 163 << 10);
  ResetMachine({.num_devices = 0});
  EXPECT_EQ(cudaGetDeviceCount(&value), cudaErrorNoDevice);
  EXPECT_EQ(value, 0);
}

TEST_F(RuntimeTest, AnInjectedFailureHitsTheCallItCounts) {
  FailCall(2, cudaErrorMemoryAllocation);
  void *first, *second, *third;
  EXPECT_EQ(cudaMalloc(&first, 16), cudaSuccess);
  EXPECT_EQ(cudaMalloc(&second, 16), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaMalloc(&third, 16), cudaSuccess);
  EXPECT_EQ(cudaFree(first), cudaSuccess);
  EXPECT_EQ(cudaFree(third), cudaSuccess);
  EXPECT_STREQ(cudaGetErrorName(cudaGetLastError()), "cudaErrorMemoryAllocation");
}

TEST_F(RuntimeTest, AFailedKernelLosesTheDevice) {
  {
    DeviceVector<int> x(32);
    FailKernel(2, cudaErrorIllegalAddress);
    for (int i = 0; i < 3; ++i) EXPECT_EQ(LaunchAdd({x.data(), 1}, nullptr), cudaSuccess);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
    EXPECT_EQ(LaunchAdd({x.data(), 1}, nullptr), cudaErrorIllegalAddress);
    EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress);
    EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress);  // it stays
  }
  EXPECT_EQ(NumKernels(), 2);
  ResetMachine();
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

// ---- cuBLASLt, opened as a back end would.

struct MatmulCase {
  bool trans_a, trans_b;
  bool bias;
  float beta;
  bool row_major;  // D and C
};

class CublasLtTest : public RuntimeTest, public testing::WithParamInterface<MatmulCase> {
 protected:
  static constexpr int kM = 24, kN = 17, kK = 40;

  int a_rows() const { return GetParam().trans_a ? kK : kM; }
  int a_columns() const { return kM + kK - a_rows(); }
  int b_rows() const { return GetParam().trans_b ? kN : kK; }
  int b_columns() const { return kN + kK - b_rows(); }
  int lda() const { return a_rows() + 3; }
  int ldb() const { return b_rows(); }
  int ldd() const { return (GetParam().row_major ? kN : kM) + 3; }

  std::vector<Bf16> WholeNumbers(int count) {
    std::vector<Bf16> v(static_cast<size_t>(count));
    for (Bf16& x : v) x = ToBf16(static_cast<float>(random_() % 15) - 7);
    return v;
  }

  // What becomes of d, elements between its lines included.
  std::vector<float> Want(const std::vector<Bf16>& a, const std::vector<Bf16>& b,
                          const std::vector<float>& bias, std::vector<float> d) const {
    const MatmulCase& p = GetParam();
    for (int i = 0; i < kM; ++i) {
      for (int j = 0; j < kN; ++j) {
        float& out = d[p.row_major ? i * ldd() + j : i + j * ldd()];
        out *= p.beta;
        for (int l = 0; l < kK; ++l) {
          out += kAlpha * ToFloat(p.trans_a ? a[l + i * lda()] : a[i + l * lda()]) *
                 ToFloat(p.trans_b ? b[j + l * ldb()] : b[l + j * ldb()]);
        }
        if (p.bias) out += bias[i];
      }
    }
    return d;
  }

  static cublasLtMatrixLayout_t Layout(cudaDataType type, int rows, int columns, int ld) {
    cublasLtMatrixLayout_t layout = nullptr;
    EXPECT_EQ(cublasLtMatrixLayoutCreate(&layout, type, rows, columns, ld), CUBLAS_STATUS_SUCCESS);
    return layout;
  }

  cublasLtMatmulDesc_t Desc(const float* bias) const {
    cublasLtMatmulDesc_t desc = nullptr;
    EXPECT_EQ(cublasLtMatmulDescCreate(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F),
              CUBLAS_STATUS_SUCCESS);
    const auto set = [&](cublasLtMatmulDescAttributes_t attribute, auto value) {
      EXPECT_EQ(cublasLtMatmulDescSetAttribute(desc, attribute, &value, sizeof(value)),
                CUBLAS_STATUS_SUCCESS);
    };
    set(CUBLASLT_MATMUL_DESC_TRANSA, GetParam().trans_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, GetParam().trans_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    if (GetParam().bias) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    }
    return desc;
  }

  static constexpr float kAlpha = 0.5f;
  static constexpr size_t kWorkspaceBytes = 1 << 20;
  std::mt19937 random_{3};
};

INSTANTIATE_TEST_SUITE_P(Cases, CublasLtTest,
                         testing::Values(MatmulCase{false, false, false, 0, false},
                                         MatmulCase{true, false, true, 0, false},
                                         MatmulCase{true, true, false, 2, false},
                                         MatmulCase{true, false, true, 1, true}));

TEST_P(CublasLtTest, MatmulIsThePlainLoopWhateverTheAlgorithm) {
  const auto a = WholeNumbers(lda() * a_columns()), b = WholeNumbers(ldb() * b_columns());
  std::vector<float> bias(kM), d(static_cast<size_t>(ldd() * kM), 1.0f);
  for (float& x : bias) x = static_cast<float>(random_() % 9);
  DeviceVector<Bf16> device_a(a), device_b(b);
  DeviceVector<float> device_bias(bias);
  DeviceVector<char> workspace(kWorkspaceBytes);

  cublasLtHandle_t handle;
  cublasLtMatmulPreference_t preference;
  ASSERT_EQ(cublasLtCreate(&handle), CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(cublasLtMatmulPreferenceCreate(&preference), CUBLAS_STATUS_SUCCESS);
  cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                       &kWorkspaceBytes, sizeof(kWorkspaceBytes));
  const auto desc = Desc(device_bias.data());
  const auto a_layout = Layout(CUDA_R_16BF, a_rows(), a_columns(), lda());
  const auto b_layout = Layout(CUDA_R_16BF, b_rows(), b_columns(), ldb());
  const auto d_layout = Layout(CUDA_R_32F, kM, kN, ldd());
  const int32_t order = GetParam().row_major ? CUBLASLT_ORDER_ROW : CUBLASLT_ORDER_COL;
  cublasLtMatrixLayoutSetAttribute(d_layout, CUBLASLT_MATRIX_LAYOUT_ORDER, &order, sizeof(order));

  cublasLtMatmulHeuristicResult_t results[8];
  int num_results = 0;
  ASSERT_EQ(cublasLtMatmulAlgoGetHeuristic(handle, desc, a_layout, b_layout, d_layout, d_layout,
                                           preference, 8, results, &num_results),
            CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(num_results, 2);  // the third wants more memory
  for (int i = 0; i < num_results; ++i) {
    DeviceVector<float> device_d(d);
    const auto run = [&](size_t workspace_bytes) {
      return cublasLtMatmul(handle, desc, &kAlpha, device_a.data(), a_layout, device_b.data(),
                            b_layout, &GetParam().beta, device_d.data(), d_layout, device_d.data(),
                            d_layout, &results[i].algo, workspace.data(), workspace_bytes, nullptr);
    };
    EXPECT_EQ(run(kWorkspaceBytes), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(device_d.ToHost(), Want(a, b, bias, d));
    if (results[i].workspaceSize > 0) {
      EXPECT_EQ(run(1000), CUBLAS_STATUS_INVALID_VALUE);
    }
  }
  cublasLtMatmulPreferenceDestroy(preference);
  for (const auto layout : {a_layout, b_layout, d_layout}) cublasLtMatrixLayoutDestroy(layout);
  cublasLtMatmulDescDestroy(desc);
  cublasLtDestroy(handle);
}

TEST(LibraryTest, CublasIsFoundByName) {
  void* library = dlopen("libcublasLt.so.13", RTLD_NOW);
  ASSERT_NE(library, nullptr);
  EXPECT_EQ(reinterpret_cast<decltype(&cublasLtMatmul)>(dlsym(library, "cublasLtMatmul")),
            &cublasLtMatmul);
  EXPECT_EQ(dlsym(library, "cublasLtFly"), nullptr);
  EXPECT_EQ(dlclose(library), 0);
}

TEST(LibraryTest, CublasCanBeMissing) {
  HideCublas(true);
  EXPECT_EQ(dlopen("libcublasLt.so.13", RTLD_NOW), nullptr);
  EXPECT_NE(std::string(dlerror()).find("libcublasLt"), std::string::npos);
  HideCublas(false);
}

}  // namespace
}  // namespace mea::simt
