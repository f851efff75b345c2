#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/config_reader.h"
#include "engine/device.h"
#include "engine/engine.h"
#include "engine/load.h"
#include "engine/plan.h"
#include "kernels/human_bytes.h"
#include "kernels/status_macros.h"
#include "server/cli/command.h"
#include "server/cli/engine_flags.h"
#include "server/cli/in_range.h"
#include "server/cli/model_dir.h"
#include "server/cli/size.h"

namespace mea {
namespace {

constexpr char kPlanExamples[] = R"(
Examples:
  mea plan models/demo-mea                          what fits in this machine's memory, and what serve takes
  mea plan models/demo-mea --memory 24GiB --context 8192 --kv-dtype f32
  mea plan models/demo-mea --device cuda --device-memory 141GiB      for a GPU that need not be here
  mea plan DIR --device cuda:0,1 --device-memory 80GiB               for two
)";

struct PlanFlags {
  std::string model_dir;
  std::string device = "auto";
  std::optional<int64_t> memory_bytes;
  std::optional<int64_t> device_memory_bytes;
  double utilization = EngineOptions().gpu_memory_utilization;
  bool random_weights = false;
  PlanOptions options{.limits = {.max_batch_tokens = 0, .max_num_seqs = 0, .page_size = 0}};
};

void Print(const Plan& plan, const PlanOptions& options) {
  const auto line = [](const std::string& label, const std::string& a, const std::string& b) {
    std::printf("%-28s %16s %16s\n", label.c_str(), a.c_str(), b.c_str());
  };
  const CachePlan& ours = plan.physical;
  const CachePlan& theirs = plan.uncompressed;
  const bool on_device = options.device.device != Device::kCpu;
  if (on_device) {
    line("device", options.device.name.empty() ? "as an H100/H200" : options.device.name, "");
  }
  if (!on_device) std::printf("%-28s %s\n", "machine", MachineText(ReadMachineLimits()).c_str());
  line("memory", HumanBytes(options.memory_bytes), "");
  line("weights", HumanBytes(plan.weights_bytes), "");
  line("workspace", HumanBytes(plan.workspace_bytes), "");
  if (!plan.missing.empty()) {
    line("scratch and graphs", "not counted", "");
  } else if (on_device) {
    line("scratch of the device", HumanBytes(plan.scratch_bytes), "");
    line("graphs, estimated", HumanBytes(plan.graphs_bytes), "");
  }
  line("left for the KV cache", HumanBytes(plan.cache_bytes), "");
  if (!plan.devices.empty()) line("on each GPU", "weights", "cache");
  for (const DeviceShare& share : plan.devices) {
    line(absl::StrFormat("GPU %d: %d layers", share.gpu, share.num_layers),
         HumanBytes(share.weights_bytes), HumanBytes(share.kv_cache_bytes));
  }
  line("", "this checkpoint", "uncompressed");
  line("cache per token", HumanBytes(ours.bytes_per_token), HumanBytes(theirs.bytes_per_token));
  line("ratio",
       absl::StrFormat("%.3f", static_cast<double>(ours.bytes_per_token) /
                                   static_cast<double>(theirs.bytes_per_token)),
       "1.000");
  line("tokens that fit", absl::StrCat(ours.num_tokens), absl::StrCat(theirs.num_tokens));
  line(absl::StrCat("sequences of ", plan.context), absl::StrCat(ours.num_sequences),
       absl::StrCat(theirs.num_sequences));
  if (!plan.missing.empty()) std::printf("not counted: %s\n", plan.missing.c_str());
  std::printf(
      "mea serve takes %s for the cache (%s tokens, %d sequences of %d) unless "
      "--kv-cache-bytes says otherwise\n",
      HumanBytes(plan.default_cache_bytes).c_str(),
      absl::StrCat(plan.by_default.num_tokens).c_str(),
      static_cast<int>(plan.by_default.num_sequences), plan.context);
}

// The engine gets all of --memory, but only its share of each device's memory.
absl::StatusOr<int64_t> MemoryOf(const PlanFlags& flags, const PlannedDevice& device) {
  if (flags.memory_bytes) return *flags.memory_bytes;
  if (device.device == Device::kCpu) return ReadMachineLimits().memory_bytes;
  const int64_t total_bytes = flags.device_memory_bytes.value_or(device.total_bytes);
  if (total_bytes == 0) {
    return absl::InvalidArgumentError("no CUDA device here: --device-memory is required");
  }
  return MemoryShare(total_bytes, flags.utilization) * std::ssize(device.gpus);
}

absl::StatusOr<Plan> PlanOf(const PlanFlags& flags, const PlanOptions& options) {
  MEA_RETURN_IF_ERROR(CheckModelDir(flags.model_dir));
  if (flags.random_weights) {
    MEA_ASSIGN_OR_RETURN(const auto config, ReadModelConfig(flags.model_dir + "/config.json"));
    return PlanRandomModel(config, options);
  }
  MEA_ASSIGN_OR_RETURN(const Checkpoint checkpoint, OpenCheckpoint(flags.model_dir));
  return PlanMemory(checkpoint, options);
}

absl::Status MakePlan(const PlanFlags& flags) {
  PlanOptions options = flags.options;
  // With the memory of a GPU the plan is for a GPU, which need not be in this machine.
  const bool names_gpu = flags.device == "auto" && flags.device_memory_bytes.has_value();
  MEA_ASSIGN_OR_RETURN(options.device, DescribePlannedDevice(names_gpu ? "cuda" : flags.device));
  MEA_ASSIGN_OR_RETURN(options.memory_bytes, MemoryOf(flags, options.device));
  MEA_ASSIGN_OR_RETURN(options.limits, ResolveLimits(options.limits, options.device.device));
  MEA_ASSIGN_OR_RETURN(const Plan plan, PlanOf(flags, options));
  MEA_RETURN_IF_ERROR(plan.refusal);
  Print(plan, options);
  return absl::OkStatus();
}

}  // namespace

void AddPlan(CLI::App& program, Action& action) {
  CLI::App& command =
      *program.add_subcommand("plan", "Show what a checkpoint takes in memory, without loading it");
  command.footer(kPlanExamples);
  auto flags = std::make_shared<PlanFlags>();
  AddModelDir(command, flags->model_dir).required();
  AddDevice(command, flags->device);
  command
      .add_option("--memory", flags->memory_bytes,
                  "Memory for weights, cache and all else, e.g. 24GiB; default: what this machine "
                  "or container allows, or the share of each GPU; several have equal parts")
      ->transform(SizeInBytes())
      ->type_name("SIZE");
  command
      .add_option("--device-memory", flags->device_memory_bytes,
                  "The GPU's own memory, e.g. 141GiB; default: that of the GPU in this machine")
      ->transform(SizeInBytes())
      ->type_name("SIZE");
  AddGpuMemoryUtilization(command, flags->utilization);
  command.add_flag("--random-weights", flags->random_weights,
                   "As for serve: DIR needs config.json only");
  command
      .add_option("--context", flags->options.context,
                  "Tokens per sequence, like --max-context of serve; 0: the model's context")
      ->check(InRange(0, 1 << 30))
      ->capture_default_str();
  AddWeightDType(command, flags->options.weight_dtype);
  AddKvDType(command, flags->options.kv_dtype);
  AddPageSize(command, flags->options.limits.page_size);
  AddMaxNumSeqs(command, flags->options.limits.max_num_seqs);
  AddMaxBatchTokens(command, flags->options.limits.max_batch_tokens);
  command.callback([flags, &action] { action = [flags] { return MakePlan(*flags); }; });
}

}  // namespace mea
