#include "engine/device.h"

#include <string_view>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

constexpr size_t kMostGpus = 64;
constexpr size_t kMostDigits = 4;

}  // namespace

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

absl::StatusOr<DeviceChoice> ParseDevice(const std::string& device) {
  if (device == "auto" || device == "cpu" || device == "cuda") return DeviceChoice{.kind = device};
  const auto refuse = [&](absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat("--device \"", device, "\" ", why));
  };
  absl::string_view list = device;
  if (!absl::ConsumePrefix(&list, "cuda:")) {
    return refuse("is none of auto, cpu, cuda, cuda:0, cuda:0,1");
  }
  DeviceChoice choice{.kind = "cuda", .gpus = {}};
  for (const absl::string_view text : absl::StrSplit(list, ',')) {
    int gpu = 0;
    if (text.empty() || text.size() > kMostDigits || !absl::c_all_of(text, absl::ascii_isdigit) ||
        !absl::SimpleAtoi(text, &gpu)) {
      return refuse("is not cuda: and the numbers of GPUs, as cuda:0,1");
    }
    if (absl::c_linear_search(choice.gpus, gpu)) {
      return refuse(absl::StrCat("names GPU ", gpu, " twice"));
    }
    choice.gpus.push_back(gpu);
  }
  if (choice.gpus.size() > kMostGpus) {
    return refuse(absl::StrCat("names ", choice.gpus.size(), " GPUs, the most is ", kMostGpus));
  }
  return choice;
}

int64_t MemoryShare(int64_t total_bytes, double utilization) {
  return static_cast<int64_t>(static_cast<double>(total_bytes) * utilization);
}

namespace {

// "NVIDIA H200", or "4 x NVIDIA H200", or all names.
std::string JoinNames(const std::vector<std::string>& names) {
  if (names.size() == 1) return names[0];
  const bool equal = absl::c_count(names, names[0]) == std::ssize(names);
  return equal ? absl::StrCat(names.size(), " x ", names[0]) : absl::StrJoin(names, ", ");
}

absl::StatusOr<OpenedBackends> OpenGpus(const std::vector<int>& gpus, CudaOptions options) {
  OpenedBackends opened;
  std::vector<std::string> names;
  int sm = 0;
  for (const int gpu : gpus) {
    options.device = gpu;
    MEA_ASSIGN_OR_RETURN(const CudaDeviceInfo info, DescribeCudaDevice(gpu));
    if (names.empty()) sm = info.sm;
    if (info.sm != sm) {
      return absl::InvalidArgumentError(
          absl::StrCat("--device: GPU ", gpu, " (", info.name, ") is of compute capability ",
                       info.sm / 10, ".", info.sm % 10, ", GPU ", gpus[0], " (", names[0], ") of ",
                       sm / 10, ".", sm % 10, "; they must be alike"));
    }
    names.push_back(info.name);
    MEA_ASSIGN_OR_RETURN(opened.backends.emplace_back(), OpenCudaBackend(options));
  }
  opened.gpus = gpus;
  opened.name = JoinNames(names);
  return opened;
}

}  // namespace

absl::StatusOr<OpenedBackends> OpenBackends(const std::string& device, const CpuThreads& threads,
                                            const CudaOptions& options) {
  MEA_ASSIGN_OR_RETURN(const DeviceChoice choice, ParseDevice(device));
  MEA_ASSIGN_OR_RETURN(ThreadPlan plan, PlanThreads(threads.affinity, threads.count));
  OpenedBackends opened;
  if (choice.kind != "cpu") {
    absl::StatusOr<OpenedBackends> cuda = OpenGpus(choice.gpus, options);
    if (cuda.ok() || choice.kind == "cuda") return cuda;
    // A build without the module is meant for the CPU, so there is nothing to report.
    if (!absl::IsNotFound(cuda.status())) opened.note = std::string(cuda.status().message());
  }
  MEA_ASSIGN_OR_RETURN(opened.backends.emplace_back(), CreateCpuBackend(plan));
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
