#include "engine/checkpoint/inspect.h"

#include <cstdio>
#include <memory>
#include <string>

#include "engine/checkpoint/checkpoint.h"
#include "engine/load.h"
#include "kernels/status_macros.h"
#include "server/cli/command.h"
#include "server/cli/engine_flags.h"
#include "server/cli/inspect_text.h"
#include "server/cli/model_dir.h"
#include "server/cli/size.h"

namespace mea {
namespace {

constexpr char kInspectExamples[] = R"(
Examples:
  mea inspect models/demo-mea             tokenizer, chat template, heads of each layer, cache bytes
  mea inspect models/demo-mea --tensors   and every tensor
)";

struct InspectFlags {
  std::string model_dir;
  std::string kv_dtype = "bf16";
  bool tensors = false;
};

absl::Status Inspect(const InspectFlags& flags) {
  MEA_ASSIGN_OR_RETURN(const KvDTypes kv_dtype, ParseKvDType(flags.kv_dtype));
  MEA_RETURN_IF_ERROR(CheckModelDir(flags.model_dir));
  MEA_ASSIGN_OR_RETURN(const Checkpoint checkpoint, OpenCheckpoint(flags.model_dir));
  const std::string text =
      InspectText(checkpoint) +
      InspectCheckpoint(checkpoint, {.kv_dtype = kv_dtype, .tensors = flags.tensors});
  std::fwrite(text.data(), 1, text.size(), stdout);
  for (const std::string& warning : checkpoint.warnings) {
    std::printf("%-14s %s\n", "warning", warning.c_str());
  }
  std::printf("%-14s %s\n", "machine", MachineText(ReadMachineLimits()).c_str());
  return absl::OkStatus();
}

}  // namespace

void AddInspect(CLI::App& program, Action& action) {
  CLI::App& command = *program.add_subcommand("inspect", "Show what a checkpoint holds");
  command.footer(kInspectExamples);
  auto flags = std::make_shared<InspectFlags>();
  AddModelDir(command, flags->model_dir).required();
  AddKvDType(command, flags->kv_dtype);
  command.add_flag("--tensors", flags->tensors, "List every tensor");
  command.callback([flags, &action] { action = [flags] { return Inspect(*flags); }; });
}

}  // namespace mea
