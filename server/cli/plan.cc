#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/engine.h"
#include "engine/load.h"
#include "engine/model/workspace.h"
#include "kvcache/kv_layout.h"
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
  std::string weight_dtype = "auto";
  std::string kv_dtype = "bf16";
  int context = 0;
  int page_size = EngineOptions{}.page_size;
  int max_num_seqs = EngineOptions{}.max_num_seqs;
  int max_batch_tokens = EngineOptions{}.max_batch_tokens;
};

absl::StatusOr<int64_t> WeightBytes(const SafeTensors& tensors, const std::string& dtype) {
  if (dtype != "auto" && dtype != "f32" && dtype != "bf16") {
    return absl::InvalidArgumentError(
        absl::StrCat("--weight-dtype '", dtype, "' is none of auto, f32, bf16"));
  }
  int64_t bytes = 0;
  for (const auto& [name, tensor] : tensors.tensors()) {
    const bool matrix = tensor.shape.size() >= 2;
    const int stored = StoredDTypeSize(tensor.dtype);
    const int size = dtype == "auto" || !matrix ? stored : dtype == "f32" ? 4 : 2;
    bytes += tensor.num_bytes / stored * size;
  }
  return bytes;
}

absl::StatusOr<int64_t> WorkspaceBytes(const ModelConfig& config, const PlanFlags& flags) {
  auto backend = CreateCpuBackend();
  if (!backend.ok()) return backend.status();
  const auto workspace = Workspace::Create(
      config, {.max_batch_tokens = flags.max_batch_tokens, .max_logit_rows = flags.max_num_seqs},
      **backend);
  if (!workspace.ok()) return workspace.status();
  return workspace->num_bytes();
}

KvLayout MakeLayout(const ModelConfig& config, DType kv_dtype, int page_size) {
  KvLayout layout{.kv_heads = config.kv_heads, .page_size = page_size};
  for (int layer = 0; layer < config.num_layers; ++layer) {
    layout.layers.push_back(config.LayerKvSpec(layer, kv_dtype));
  }
  return layout;
}

void PrintPlan(const KvLayout& layout, int64_t weights, int64_t workspace, int64_t memory,
               int context) {
  const int64_t for_cache = std::max<int64_t>(memory - weights - workspace, 0);
  const int64_t pages = for_cache / layout.PageBytes();
  const int64_t uncompressed_pages = for_cache / layout.UncompressedPageBytes();
  const int64_t pages_per_seq = layout.PagesFor(context);
  const auto line = [](const std::string& label, const std::string& a, const std::string& b) {
    std::printf("%-28s %16s %16s\n", label.c_str(), a.c_str(), b.c_str());
  };
  line("memory", HumanBytes(memory), "");
  line("weights", HumanBytes(weights), "");
  line("workspace", HumanBytes(workspace), "");
  line("left for the KV cache", HumanBytes(for_cache), "");
  line("", "this checkpoint", "uncompressed");
  line("cache per token", HumanBytes(layout.BytesPerToken()),
       HumanBytes(layout.UncompressedBytesPerToken()));
  line("ratio", absl::StrFormat("%.3f", layout.CompressionRatio()), "1.000");
  line("tokens that fit", absl::StrCat(pages * layout.page_size),
       absl::StrCat(uncompressed_pages * layout.page_size));
  line(absl::StrCat("sequences of ", context), absl::StrCat(pages / pages_per_seq),
       absl::StrCat(uncompressed_pages / pages_per_seq));
}

absl::Status Plan(const PlanFlags& flags) {
  const absl::StatusOr<DType> kv_dtype = ParseKvDType(flags.kv_dtype);
  if (!kv_dtype.ok()) return kv_dtype.status();
  const absl::StatusOr<int64_t> memory =
      flags.memory.empty() ? PhysicalMemoryBytes() : ParseSize("--memory", flags.memory);
  if (!memory.ok()) return memory.status();
  absl::StatusOr<Checkpoint> checkpoint = OpenCheckpoint(flags.model_dir);
  if (!checkpoint.ok()) return checkpoint.status();
  const ModelConfig& config = checkpoint->config;
  if (flags.context > config.max_position) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--context ", flags.context, " exceeds the model's context of ", config.max_position));
  }
  const absl::StatusOr<int64_t> weights = WeightBytes(checkpoint->tensors, flags.weight_dtype);
  if (!weights.ok()) return weights.status();
  const absl::StatusOr<int64_t> workspace = WorkspaceBytes(config, flags);
  if (!workspace.ok()) return workspace.status();
  PrintPlan(MakeLayout(config, *kv_dtype, flags.page_size), *weights, *workspace, *memory,
            flags.context == 0 ? config.max_position : flags.context);
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
  command
      .add_option("--memory", flags->memory, "Memory for all of it, e.g. 24GiB; default: all RAM")
      ->type_name("SIZE");
  command.add_option("--context", flags->context, "Tokens per sequence; 0: the model's context")
      ->check(CLI::Range(0, 1 << 30))
      ->capture_default_str();
  command.add_option("--weight-dtype", flags->weight_dtype, "auto (as stored), f32, bf16")
      ->capture_default_str();
  command.add_option("--kv-dtype", flags->kv_dtype, "bf16, f32")->capture_default_str();
  command.add_option("--page-size", flags->page_size, "Tokens per page")
      ->check(CLI::Range(16, 1024))
      ->capture_default_str();
  command.add_option("--max-num-seqs", flags->max_num_seqs, "Sequences computed at once")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  command.add_option("--max-batch-tokens", flags->max_batch_tokens, "Tokens in one step")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  command.callback([flags, &action] { action = [flags] { return Plan(*flags); }; });
}

}  // namespace mea
