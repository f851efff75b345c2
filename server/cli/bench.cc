#include <cstdio>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/bench/attention_bench.h"
#include "engine/bench/engine_bench.h"
#include "engine/bench/ops_bench.h"
#include "engine/bench/paced.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/config_reader.h"
#include "engine/checkpoint/hub_cache.h"
#include "engine/device.h"
#include "engine/load.h"
#include "engine/model/model_weights.h"
#include "kernels/status_macros.h"
#include "server/cli/command.h"
#include "server/cli/engine_flags.h"
#include "server/cli/in_range.h"
#include "server/cli/model_dir.h"
#include "server/cli/size.h"

namespace mea {
namespace {

constexpr char kEngineExamples[] = R"(
Examples:
  mea bench engine models/demo-mea --batch 1,8 --context 128,448 --chunk 64
  mea bench engine --random-weights tests/bench/shapes/a_llama_3.2_1b_h4 --uncompressed
  mea bench engine --random-weights tests/bench/shapes/b_llama_3_8b_h4 --equal-memory 40GiB
      --uncompressed --json b.json

A step is timed from the batch to the drawn tokens, over a cache of arbitrary numbers. "floor" is the
share of this machine's roofline: the bytes and flops that the step needs at least, at the memory and
arithmetic rates read in the same rounds. "mea=" marks batches of equal memory.
)";
constexpr char kAttentionExamples[] = R"(
Examples:
  mea bench attention tests/bench/shapes/b_llama_3_8b_h4 --batch 1,32 --context 2048,8192

  mea bench attention tests/bench/shapes/b_llama_3_8b_h4 --batch 1 --context 6144 --chunk 512,2048

The attention op alone, on the heads of the first layer: one query for each sequence, and with --chunk
so many of one sequence.
)";

constexpr char kOpsExamples[] = R"(
Examples:
  mea bench ops models/demo-mea --batch 1 --context 448 --chunk 64
  mea bench ops --random-weights tests/bench/shapes/e_cpu_768_h6 --batch 1,8 --context 8192 --threads 1

Where the time of a step goes: the calls of each op together, the longest first, beside what the
machine could do at most. On the CPU alone.
)";

struct BenchFlags {
  std::string model_dir;
  std::string random_dir;
  std::string device = "auto";
  std::string uncompressed;
  std::string weight_dtype = "auto";
  std::string kv_dtype = "bf16";
  std::optional<int64_t> max_cache_bytes;
  std::string decode_kernel = "auto";
  std::string prefill_kernel = "auto";
  std::string json;
  int num_threads = 0;
  std::string cpu_affinity = "auto";
  bool is_paced = false;
  EngineBenchOptions options;
};

void AddCommonFlags(CLI::App& command, BenchFlags& flags) {
  AddDevice(command, flags.device);
  command.add_option("--batch", flags.options.batches, "Sequences in a step")
      ->delimiter(',')
      ->check(InRange(1, 1 << 16))
      ->capture_default_str();
  command
      .add_option("--context", flags.options.contexts,
                  "Tokens that a decoding sequence sees, its newest included")
      ->delimiter(',')
      ->check(InRange(1, 1 << 24))
      ->capture_default_str();
  command.add_flag(
      "--uncompressed{one-hot}", flags.uncompressed,
      "Also measure the same shape with every virtual head stored: through a mix that is the "
      "identity (one-hot, the default), or without a mix (--uncompressed=plain)");
  AddKvDType(command, flags.kv_dtype);
  AddPageSize(command, flags.options.page_size);
  command
      .add_option("--max-cache-bytes", flags.max_cache_bytes,
                  "Most memory of all caches together; what needs more is skipped. Default: half "
                  "of the RAM, or all of the GPU's")
      ->transform(SizeInBytes())
      ->type_name("SIZE");
  AddThreads(command, flags.num_threads);
  AddCpuAffinity(command, flags.cpu_affinity);
  command
      .add_option("--decode-kernel", flags.decode_kernel,
                  "On CUDA: auto, general, mma or wgmma (kernels/cuda/attention)")
      ->capture_default_str();
  command
      .add_option("--prefill-kernel", flags.prefill_kernel,
                  "On CUDA, of chunks of more than 8 tokens: auto, mma or wgmma")
      ->capture_default_str();
  command
      .add_option("--chunk", flags.options.prefill_chunks,
                  "Prompt tokens of one sequence in a step, measured after no context and after "
                  "each --context; 0: none")
      ->delimiter(',')
      ->check(InRange(0, 1 << 16))
      ->capture_default_str();
  command.add_option("--rounds", flags.options.rounds, "Measurements of each point")
      ->check(InRange(1, 1000))
      ->capture_default_str();
  command
      .add_option("--round-seconds", flags.options.round_seconds,
                  "Least seconds of one measurement; at least one step")
      ->check(InRange(0.0, 60.0))
      ->capture_default_str();
  command.add_option("--json", flags.json, "Also write the results here")->type_name("FILE");
}

BackendFactory Backends(const BenchFlags& flags) {
  return [&flags]() -> absl::StatusOr<std::unique_ptr<Backend>> {
    MEA_ASSIGN_OR_RETURN(const CudaDecodeKernel kernel, ParseDecodeKernel(flags.decode_kernel));
    MEA_ASSIGN_OR_RETURN(const CudaPrefillKernel prefill, ParsePrefillKernel(flags.prefill_kernel));
    MEA_ASSIGN_OR_RETURN(OpenedBackends opened,
                         OpenBackends(flags.device, {flags.num_threads, flags.cpu_affinity},
                                      {.decode_kernel = kernel, .prefill_kernel = prefill}));
    if (opened.backends.size() > 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("--device ", flags.device, ": mea bench measures one device"));
    }
    const bool is_cuda = opened.backends[0]->device() == Device::kCuda;
    for (const auto& [flag, name] : {std::pair("--decode-kernel ", flags.decode_kernel),
                                     std::pair("--prefill-kernel ", flags.prefill_kernel)}) {
      if (name == "auto" || is_cuda) continue;
      return absl::InvalidArgumentError(absl::StrCat(flag, name, ": there is no CUDA device here"));
    }
    return std::move(opened.backends[0]);
  };
}

// Reads the flags that are words or have units, and settles the device.
absl::Status Resolve(BenchFlags& flags) {
  MEA_ASSIGN_OR_RETURN(const std::unique_ptr<Backend> backend, Backends(flags)());
  const Device device = backend->device();
  if (device == Device::kCpu) flags.device = "cpu";
  if (device == Device::kCuda && flags.device == "auto") flags.device = "cuda";
  MEA_ASSIGN_OR_RETURN(flags.options.kv_dtype, ParseKvDType(flags.kv_dtype, device));
  if (!flags.uncompressed.empty()) {
    MEA_ASSIGN_OR_RETURN(const HeadStorage twin, ParseUncompressed(flags.uncompressed));
    flags.options.storages.push_back(twin);
  }
  flags.options.max_cache_bytes = flags.max_cache_bytes.value_or(
      device == Device::kCpu ? ReadMachineLimits().memory_bytes / 2 : 0);
  if (flags.decode_kernel != "auto") flags.options.kernel = flags.decode_kernel;
  if (flags.prefill_kernel != "auto") flags.options.prefill_kernel = flags.prefill_kernel;
  flags.options.roofline.num_threads = flags.num_threads;
  if (flags.options.page_size == 0) flags.options.page_size = DefaultsOf(device).page_size;
  return CheckPageSize(flags.options.page_size, device);
}

absl::StatusOr<ModelWeights> RandomWeights(const BenchFlags& flags, const ModelConfig& config,
                                           HeadStorage storage, Backend& backend) {
  MEA_ASSIGN_OR_RETURN(const auto dtype, ParseWeightDType(flags.weight_dtype));
  constexpr uint64_t kSeed = 1;
  absl::StatusOr<ModelWeights> weights =
      backend.device() == Device::kCpu
          ? MakeRandomWeights(config, dtype.value_or(DType::kBf16), kSeed, UsableCpus())
          : MakeRandomWeightsOn(OnOneDevice(&backend, config), config, kSeed);
  if (!weights.ok() || storage != HeadStorage::kOneHot) return weights;
  MEA_RETURN_IF_ERROR(MakeMixesOneHot(*weights, backend));
  return weights;
}

int FirstGpu(const std::string& device) {
  const absl::StatusOr<DeviceChoice> choice = ParseDevice(device);
  return choice.ok() ? choice->gpus.front() : 0;  // a wrong one has been refused
}

// Prints every row as it arrives and rewrites the file, so that an interrupted run leaves its
// results.
class Results {
 public:
  Results(const BenchFlags& flags, std::string command)
      : file_(flags.json),
        command_(std::move(command)),
        machine_(DescribeMachine(flags.device == "cpu" ? Device::kCpu : Device::kCuda,
                                 flags.num_threads, FirstGpu(flags.device))) {
    std::printf("%s\n", TableHead().c_str());
  }

  void Add(const BenchRow& row) {
    std::printf("%s\n", TableLine(row).c_str());
    std::fflush(stdout);
    rows_.push_back(row);
    if (!file_.empty()) written_ = WriteJson(file_, command_, machine_, rows_);
  }

  // The status of the last write.
  const absl::Status& written() const { return written_; }

 private:
  const std::string file_;
  const std::string command_;
  const BenchMachine machine_;
  std::vector<BenchRow> rows_;
  absl::Status written_;
};

// Runs `mea bench engine`, or `ops`.
absl::Status RunStepBench(BenchFlags flags, bool by_op) {
  MEA_RETURN_IF_ERROR(Resolve(flags));
  if (flags.model_dir.empty() == flags.random_dir.empty()) {
    return absl::InvalidArgumentError(
        "give a checkpoint's directory, or --random-weights with that of a config.json");
  }
  std::optional<Checkpoint> checkpoint;
  ModelConfig config;
  if (flags.random_dir.empty()) {
    MEA_RETURN_IF_ERROR(CheckModelDir(flags.model_dir));
    MEA_ASSIGN_OR_RETURN(checkpoint, OpenCheckpoint(flags.model_dir));
    config = checkpoint->config;
  } else {
    MEA_ASSIGN_OR_RETURN(config, ReadModelConfig(flags.random_dir + "/config.json"));
  }
  flags.options.shape = CheckpointName(flags.model_dir + flags.random_dir);
  const auto weights = [&](const ModelConfig& wanted, HeadStorage storage,
                           Backend& backend) -> absl::StatusOr<ModelWeights> {
    // A checkpoint has no uncompressed twin, but the speed does not depend on the values.
    if (!checkpoint || storage != HeadStorage::kAsConfigured) {
      return RandomWeights(flags, wanted, storage, backend);
    }
    MEA_ASSIGN_OR_RETURN(const auto dtype,
                         WeightDTypeFor(flags.weight_dtype, backend.weight_dtype()));
    return LoadWeights(*checkpoint, {.weight_dtype = dtype});
  };
  if (flags.is_paced) {
    MEA_ASSIGN_OR_RETURN(const auto bench,
                         EngineBench::Create(config, flags.options, Backends(flags), weights));
    MeasureOnRequest(*bench, std::cin, std::cout);
    return absl::OkStatus();
  }
  Results results(flags, by_op ? "mea bench ops" : "mea bench engine");
  const auto measure = by_op ? BenchOps : BenchEngine;
  const auto rows = measure(config, flags.options, Backends(flags), weights,
                            [&](const BenchRow& row) { results.Add(row); });
  return rows.ok() ? results.written() : rows.status();
}

absl::Status RunAttentionBench(BenchFlags flags) {
  MEA_RETURN_IF_ERROR(Resolve(flags));
  const KvDTypes kv_dtype = flags.options.kv_dtype;
  if (IsIntegerCache(kv_dtype.keys) || IsIntegerCache(kv_dtype.values)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--kv-dtype ", flags.kv_dtype,
                     ": bench attention takes bf16 and f32, bench engine all formats"));
  }
  MEA_ASSIGN_OR_RETURN(const ModelConfig config,
                       ReadModelConfig(flags.random_dir + "/config.json"));
  flags.options.shape = CheckpointName(flags.random_dir);
  Results results(flags, "mea bench attention");
  const auto rows = BenchAttention(config, flags.options, Backends(flags),
                                   [&](const BenchRow& row) { results.Add(row); });
  return rows.ok() ? results.written() : rows.status();
}

std::shared_ptr<BenchFlags> AddStepFlags(CLI::App& command) {
  auto flags = std::make_shared<BenchFlags>();
  AddModelDir(command, flags->model_dir);
  command
      .add_option("--random-weights", flags->random_dir,
                  "Directory of a config.json: random weights of this shape")
      ->type_name("DIR");
  AddCommonFlags(command, *flags);
  AddWeightDType(command, flags->weight_dtype);
  return flags;
}

void AddEngineBench(CLI::App& bench, Action& action) {
  CLI::App& command =
      *bench.add_subcommand("engine", "Time decode and prefill steps beside the machine's limits");
  command.footer(kEngineExamples);
  const auto flags = AddStepFlags(command);
  command
      .add_option("--equal-memory", flags->options.equal_memory_bytes,
                  "Decode also with as many sequences as a cache of this size holds")
      ->transform(SizeInBytes())
      ->type_name("SIZE");
  command.add_flag("--paced", flags->is_paced,
                   "Measure a point whenever stdin names it (\"BATCH CONTEXT TOKENS\") and answer "
                   "with a line of JSON: for programs that time others in between");
  command.callback([flags, &action] { action = [flags] { return RunStepBench(*flags, false); }; });
}

void AddOpsBench(CLI::App& bench, Action& action) {
  CLI::App& command = *bench.add_subcommand("ops", "Time each op of such steps");
  command.footer(kOpsExamples);
  const auto flags = AddStepFlags(command);
  flags->device = "cpu";
  flags->options.batches = {1};
  command.callback([flags, &action] { action = [flags] { return RunStepBench(*flags, true); }; });
}

void AddAttentionBench(CLI::App& bench, Action& action) {
  CLI::App& command = *bench.add_subcommand("attention", "Time the attention op alone");
  command.footer(kAttentionExamples);
  auto flags = std::make_shared<BenchFlags>();
  flags->options.batches = {1, 8, 32};
  flags->options.contexts = {1024, 8192};
  flags->options.prefill_chunks = {0};
  command.add_option("shape", flags->random_dir, "Directory of a config.json")
      ->required()
      ->type_name("DIR");
  AddCommonFlags(command, *flags);
  command.callback([flags, &action] { action = [flags] { return RunAttentionBench(*flags); }; });
}

}  // namespace

void AddBench(CLI::App& program, Action& action) {
  CLI::App& command = *program.add_subcommand("bench", "Measure speed");
  command.require_subcommand(0, 1);  // as in main
  AddEngineBench(command, action);
  AddOpsBench(command, action);
  AddAttentionBench(command, action);
  AddServeBench(command, action);
}

}  // namespace mea
