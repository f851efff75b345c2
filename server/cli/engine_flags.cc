#include "server/cli/engine_flags.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/device.h"
#include "engine/load.h"
#include "server/cli/in_range.h"
#include "server/cli/model_dir.h"
#include "server/cli/size.h"

namespace mea {
namespace {

// "; 0: 32 on the CPU, 64 on a GPU".
std::string OfDevice(int DeviceDefaults::*field) {
  return absl::StrCat("; 0: ", DefaultsOf(Device::kCpu).*field, " on the CPU, ",
                      DefaultsOf(Device::kCuda).*field, " on a GPU");
}

}  // namespace

CLI::Option& AddModelDir(CLI::App& command, std::string& dir) {
  return *command.add_option("model,--model", dir, "Checkpoint directory")
              ->transform(CheckpointDir())
              ->type_name("DIR");
}

void AddDevice(CLI::App& command, std::string& device) {
  command
      .add_option("--device", device,
                  "cpu; cuda: the first GPU; cuda:1; cuda:0,1: the layers over several GPUs; or "
                  "auto: the GPU where there is one")
      ->check(CLI::Validator(
          [](const std::string& text) {
            const absl::Status status = ParseDevice(text).status();
            return std::string(absl::StripPrefix(status.message(), "--device "));
          },
          ""))
      ->type_name("DEVICE")
      ->capture_default_str();
}

void AddThreads(CLI::App& command, int& num_threads) {
  command
      .add_option("--threads", num_threads,
                  "CPU threads; 0: one for each core that the program may use")
      ->check(InRange(0, 1024))
      ->capture_default_str();
}

void AddCpuAffinity(CLI::App& command, std::string& affinity) {
  command
      .add_option("--cpu-affinity", affinity,
                  "Where the CPU threads run. auto: spread over the groups of cores that share a "
                  "cache, each within its group; off: anywhere; 0-15,32-47: one on each of these "
                  "processors")
      ->type_name("LIST")
      ->capture_default_str();
}

void AddWeightDType(CLI::App& command, std::string& dtype) {
  command
      .add_option("--weight-dtype", dtype,
                  absl::StrCat("Format of the matrices in memory: ", kWeightDTypes,
                               "; auto: as stored, bf16 for random ones"))
      ->capture_default_str();
}

void AddKvDType(CLI::App& command, std::string& dtype) {
  command.add_option("--kv-dtype", dtype, absl::StrCat("Format of the KV cache: ", kKvDTypes))
      ->capture_default_str();
}

void AddPageSize(CLI::App& command, int& page_size) {
  command
      .add_option("--page-size", page_size,
                  "Tokens per page of the KV cache" + OfDevice(&DeviceDefaults::page_size))
      ->check(InRange(0, 1024))
      ->capture_default_str();
}

void AddKvCacheBytes(CLI::App& command, int64_t& bytes, const std::string& by_default) {
  command
      .add_option(
          "--kv-cache-bytes", bytes,
          "Memory of the KV cache: 4GiB, 4Gi or 4G, 4GB for powers of ten. 0: " + by_default)
      ->transform(SizeInBytes())
      ->type_name("SIZE")
      ->capture_default_str();
}

void AddMaxNumSeqs(CLI::App& command, int& max_num_seqs) {
  command
      .add_option("--max-num-seqs", max_num_seqs,
                  "Most sequences computed at once" + OfDevice(&DeviceDefaults::max_num_seqs))
      ->check(InRange(0, 1 << 16))
      ->capture_default_str();
}

void AddMaxBatchTokens(CLI::App& command, int& max_batch_tokens) {
  command
      .add_option("--max-batch-tokens", max_batch_tokens,
                  "Most tokens in one step; a longer prompt takes several steps" +
                      OfDevice(&DeviceDefaults::max_batch_tokens))
      ->check(InRange(0, 1 << 16))
      ->capture_default_str();
}

void AddGpuMemoryUtilization(CLI::App& command, double& utilization) {
  command
      .add_option("--gpu-memory-utilization", utilization,
                  "Share of the GPU's memory that the program may use")
      ->check(InRange(0.01, 1.0))
      ->capture_default_str();
}

}  // namespace mea
