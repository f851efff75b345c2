#include "engine/device.h"

#include "absl/strings/str_cat.h"
#include "kernels/status_macros.h"

namespace mea {

const DeviceDefaults& DefaultsOf(Device device) {
  static constexpr DeviceDefaults kCpu = {
      .page_size = 32, .page_size_multiple = 16, .max_num_seqs = 64, .max_batch_tokens = 512};
  static constexpr DeviceDefaults kCuda = {.page_size = 64,
                                           .page_size_multiple = 64,
                                           .max_num_seqs = 256,
                                           .max_batch_tokens = 2048,
                                           .compute = DType::kBf16,
                                           .wide = DType::kF32,
                                           .bf16_only = true};
  return device == Device::kCuda ? kCuda : kCpu;
}

absl::Status CheckPageSize(int page_size, Device device) {
  const int multiple = DefaultsOf(device).page_size_multiple;
  if (page_size % multiple == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--page-size ", page_size, " is not a multiple of ", multiple));
}

absl::Status CheckDeviceName(const std::string& device) {
  if (device == "auto" || device == "cpu" || device == "cuda") return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--device \"", device, "\" is none of auto, cpu, cuda"));
}

int64_t MemoryShare(int64_t total_bytes, double utilization) {
  return static_cast<int64_t>(static_cast<double>(total_bytes) * utilization);
}

absl::StatusOr<OpenedBackend> OpenBackend(const std::string& device, const CpuThreads& threads,
                                          const CudaOptions& options) {
  MEA_RETURN_IF_ERROR(CheckDeviceName(device));
  MEA_ASSIGN_OR_RETURN(ThreadPlan plan, PlanThreads(threads.affinity, threads.count));
  OpenedBackend opened;
  if (device != "cpu") {
    absl::StatusOr<std::unique_ptr<Backend>> cuda = OpenCudaBackend(options);
    if (cuda.ok()) {
      const absl::StatusOr<CudaDeviceInfo> info = DescribeCudaDevice(options.device);
      return OpenedBackend{.backend = *std::move(cuda), .name = info.ok() ? info->name : "cuda"};
    }
    if (device == "cuda") return cuda.status();
    // A build without the module is meant for the CPU, so there is nothing to report.
    if (!absl::IsNotFound(cuda.status())) opened.note = std::string(cuda.status().message());
  }
  MEA_ASSIGN_OR_RETURN(opened.backend, CreateCpuBackend(plan));
  opened.threads = std::move(plan);
  return opened;
}

absl::StatusOr<CudaDecodeKernel> ParseDecodeKernel(const std::string& name) {
  if (name == "auto") return CudaDecodeKernel::kAuto;
  if (name == "general") return CudaDecodeKernel::kGeneral;
  if (name == "mma") return CudaDecodeKernel::kMma;
  if (name == "wgmma") return CudaDecodeKernel::kWgmma;
  return absl::InvalidArgumentError(
      absl::StrCat("--decode-kernel \"", name, "\" is none of auto, general, mma, wgmma"));
}

absl::StatusOr<CudaPrefillKernel> ParsePrefillKernel(const std::string& name) {
  if (name == "auto") return CudaPrefillKernel::kAuto;
  if (name == "mma") return CudaPrefillKernel::kMma;
  if (name == "wgmma") return CudaPrefillKernel::kWgmma;
  return absl::InvalidArgumentError(
      absl::StrCat("--prefill-kernel \"", name, "\" is none of auto, mma, wgmma"));
}

}  // namespace mea
