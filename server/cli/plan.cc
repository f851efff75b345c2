#include <cstdio>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/device.h"
#include "engine/engine.h"
#include "engine/plan.h"
#include "server/cli/command.h"
#include "server/cli/size.h"
#include "server/status_page.h"

namespace mea {
namespace {

constexpr char kExamples[] = R"(
Examples:
  mea plan models/demo                          what fits in this machine's memory
  mea plan models/demo --memory 24GiB --context 8192 --kv-dtype f32
)";

struct PlanFlags {
  std::string model_dir;
  std::string memory;
  std::string device = "cpu";
  int max_num_seqs = 0;
  PlanOptions options{.page_size = 0, .limits = {.max_batch_tokens = 0}};
};

void Print(const Plan& plan, int64_t memory) {
  const auto line = [](const std::string& label, const std::string& a, const std::string& b) {
    std::printf("%-28s %16s %16s\n", label.c_str(), a.c_str(), b.c_str());
  };
  const CachePlan& ours = plan.physical;
  const CachePlan& theirs = plan.uncompressed;
  line("memory", HumanBytes(memory), "");
  line("weights", HumanBytes(plan.weights_bytes), "");
  line("workspace", HumanBytes(plan.workspace_bytes), "");
  line("left for the KV cache", HumanBytes(plan.cache_bytes), "");
  line("", "this checkpoint", "uncompressed");
  line("cache per token", HumanBytes(ours.bytes_per_token), HumanBytes(theirs.bytes_per_token));
  line("ratio",
       absl::StrFormat("%.3f", static_cast<double>(ours.bytes_per_token) /
                                   static_cast<double>(theirs.bytes_per_token)),
       "1.000");
  line("tokens that fit", absl::StrCat(ours.num_tokens), absl::StrCat(theirs.num_tokens));
  line(absl::StrCat("sequences of ", plan.context), absl::StrCat(ours.num_sequences),
       absl::StrCat(theirs.num_sequences));
}

absl::Status MakePlan(const PlanFlags& flags) {
  PlanOptions options = flags.options;
  const absl::StatusOr<int64_t> memory =
      flags.memory.empty() ? PhysicalMemoryBytes() : ParseSize("--memory", flags.memory);
  if (!memory.ok()) return memory.status();
  options.memory_bytes = *memory;
  options.device = flags.device == "cuda" ? Device::kCuda : Device::kCpu;
  const DeviceDefaults& defaults = DefaultsOf(options.device);
  const auto or_default = [](int value, int fallback) { return value == 0 ? fallback : value; };
  options.page_size = or_default(options.page_size, defaults.page_size);
  ModelLimits& limits = options.limits;
  limits.max_batch_tokens = or_default(limits.max_batch_tokens, defaults.max_batch_tokens);
  limits.max_num_seqs = or_default(flags.max_num_seqs, defaults.max_num_seqs);
  limits.max_logit_rows = limits.max_num_seqs;
  const absl::StatusOr<Checkpoint> checkpoint = OpenCheckpoint(flags.model_dir);
  if (!checkpoint.ok()) return checkpoint.status();
  const absl::StatusOr<Plan> plan = PlanMemory(*checkpoint, options);
  if (!plan.ok()) return plan.status();
  Print(*plan, *memory);
  return absl::OkStatus();
}

}  // namespace

void AddPlan(CLI::App& program, Action& action) {
  CLI::App& command =
      *program.add_subcommand("plan", "Show what a checkpoint takes in memory, without loading it");
  command.footer(kExamples);
  auto flags = std::make_shared<PlanFlags>();
  command.add_option("model,--model", flags->model_dir, "Checkpoint directory")
      ->required()
      ->type_name("DIR");
  command.add_option("--device", flags->device, "Whose formats: cpu, cuda (--memory is its own)")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
  command
      .add_option("--memory", flags->memory, "Memory for all of it, e.g. 24GiB; default: all RAM")
      ->type_name("SIZE");
  command
      .add_option("--context", flags->options.context,
                  "Tokens per sequence; 0: the model's context")
      ->check(CLI::Range(0, 1 << 30))
      ->capture_default_str();
  command.add_option("--weight-dtype", flags->options.weight_dtype, "auto (as stored), f32, bf16")
      ->capture_default_str();
  command.add_option("--kv-dtype", flags->options.kv_dtype, "bf16, f32")->capture_default_str();
  command.add_option("--page-size", flags->options.page_size, "Tokens per page; 0: the device's")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command
      .add_option("--max-num-seqs", flags->max_num_seqs,
                  "Sequences computed at once; 0: the device's default")
      ->check(CLI::Range(0, 1 << 16))
      ->capture_default_str();
  command
      .add_option("--max-batch-tokens", flags->options.limits.max_batch_tokens,
                  "Tokens in one step; 0: the device's default")
      ->check(CLI::Range(0, 1 << 16))
      ->capture_default_str();
  command.callback([flags, &action] { action = [flags] { return MakePlan(*flags); }; });
}

}  // namespace mea
