#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace mea {

// Of the rows that decode: kernels/cuda/attention/README.md. kAuto is kMma where the shape allows;
// a kernel that does not take the shape or the device gives way to the one before it.
enum class CudaDecodeKernel : uint8_t { kAuto, kGeneral, kMma, kWgmma };

// Of longer chunks of query rows, likewise.
enum class CudaPrefillKernel : uint8_t { kAuto, kMma, kWgmma };

struct CudaOptions {
  int device = 0;
  // Times the algorithms for a product of each new shape and keeps the fastest; false: the
  // library's first choice, which is the same in every run.
  bool search_products = true;
  // A decoding row's attention has the same bits in every batch: its tokens are cut by its length
  // alone. Otherwise blocks get equal shares of the batch, which is faster.
  bool batch_invariant = false;
  // Scratch that products may use; 32 MiB is what NVIDIA recommends for Hopper.
  int64_t product_scratch_bytes = int64_t{32} << 20;
  // Graphs of decode steps that are kept (Backend::Run); 0: none is made.
  int max_graphs = 256;
  // Waits for every op, so that an error names the op that caused it. For finding faults.
  bool synchronous = false;
  CudaDecodeKernel decode_kernel = CudaDecodeKernel::kAuto;
  CudaPrefillKernel prefill_kernel = CudaPrefillKernel::kAuto;
};

struct CudaDeviceInfo {
  std::string name;  // "NVIDIA H200"
  int sm = 0;        // compute capability, 90 for 9.0
  int num_sms = 0;   // multiprocessors
  int64_t total_bytes = 0;
  int64_t free_bytes = 0;
  std::string driver;  // the newest CUDA that the driver speaks: "13.0"
};

// The CUDA back end lives in a library of its own, libmea_cuda.so, so that the program needs
// nothing of CUDA where there is no GPU. It is looked for at $MEA_CUDA_MODULE if that is set, else
// in the executable's directory and in ../lib from there, and once opened stays.
//
// NOT_FOUND: no module, or no cuBLASLt. UNAVAILABLE: no driver, or no device. OUT_OF_RANGE: no
// device of that number. FAILED_PRECONDITION: the module is of another build, or has no code for
// the device. The message is one line that names what is missing.
absl::StatusOr<std::unique_ptr<Backend>> OpenCudaBackend(const CudaOptions& options = {});
absl::StatusOr<CudaDeviceInfo> DescribeCudaDevice(int device = 0);
// Backend::PlannedBytes on such a device, of which sm and num_sms count: there need not be one.
absl::StatusOr<BackendBytes> PlannedCudaBytes(const BackendLimits& limits,
                                              const CudaOptions& options,
                                              const CudaDeviceInfo& device);

// What the module exports under the C name mea_cuda_module. The version comes first and is compared
// before anything else is touched.
struct CudaModule {
  const char* version;
  absl::StatusOr<std::unique_ptr<Backend>> (*open)(const CudaOptions& options);
  absl::StatusOr<CudaDeviceInfo> (*describe)(int device);
  absl::StatusOr<BackendBytes> (*planned_bytes)(const BackendLimits& limits,
                                                const CudaOptions& options,
                                                const CudaDeviceInfo& device);
};
inline constexpr char kCudaModuleSymbol[] = "mea_cuda_module";

// The release and a digest of the headers that program and module share.
const char* CudaModuleVersion();

}  // namespace mea
