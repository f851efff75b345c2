#include "engine/eval/scores.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/host_memory.h"
#include "engine/load.h"
#include "engine/text/tokenizer.h"
#include "kernels/human_bytes.h"
#include "kernels/status_macros.h"
#include "server/cli/command.h"
#include "server/cli/engine_flags.h"
#include "server/cli/in_range.h"
#include "server/cli/kv_sweep.h"
#include "server/cli/model_dir.h"

namespace mea {
namespace {

constexpr char kEvalExamples[] = R"(
Examples:
  mea eval models/demo-mea --text models/eval/heldout.txt
  mea eval models/demo-mea --task models/eval/recall.jsonl --task models/eval/copy.jsonl --json
  mea eval llama --text text.txt --kv-sweep                     what each --kv-dtype would lose
  mea eval llama-mea --text text.txt --kv-sweep=int8 --reference llama   a conversion beside its origin

A task is a file of lines {"prompt": "...", "answer": "..."}; a question is solved when the greedy
continuation of its prompt begins with the answer.
)";

struct EvalFlags {
  std::string model_dir;
  std::vector<std::string> texts;
  std::vector<std::string> tasks;
  std::string weight_dtype = "auto";
  std::string kv_dtype = "bf16";
  int64_t kv_cache_bytes = 0;
  ModelLimits limits{.max_num_seqs = 16, .page_size = 32};
  int max_context = 0;
  int num_threads = 0;
  KvSweepFlags kv_sweep;
  bool json = false;
};

// The inputs to measure, by file.
struct EvalInputs {
  std::vector<std::pair<std::string, std::string>> texts;
  std::vector<std::pair<std::string, std::vector<Question>>> tasks;
};

// An engine without its thread: everything between loading and scoring happens in this one.
struct EvalEngine {
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Model> model;
  std::unique_ptr<KvCache> kv;
  std::unique_ptr<EngineCore> core;
  std::vector<int32_t> end_tokens;
};

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(path + ": cannot be read");
  return std::string(std::istreambuf_iterator<char>(file), {});
}

absl::StatusOr<EvalInputs> ReadInputs(const EvalFlags& flags) {
  EvalInputs inputs;
  for (const std::string& path : flags.texts) {
    MEA_ASSIGN_OR_RETURN(std::string text, ReadFile(path));
    inputs.texts.emplace_back(path, std::move(text));
  }
  for (const std::string& path : flags.tasks) {
    MEA_ASSIGN_OR_RETURN(std::vector<Question> questions, ReadQuestions(path));
    inputs.tasks.emplace_back(path, std::move(questions));
  }
  return inputs;
}

absl::StatusOr<EvalRequests> RequestsOf(const EvalInputs& inputs, const Tokenizer& tokenizer,
                                        const Checkpoint& checkpoint) {
  EvalRequests all;
  const auto add = [&all](const EvalRequests& some) {
    all.count = std::max(all.count, some.count);  // one file after the other
    all.longest = std::max(all.longest, some.longest);
  };
  for (const auto& [path, text] : inputs.texts) {
    const absl::StatusOr<EvalRequests> requests = RequestsOfText(
        tokenizer, text, checkpoint.generation.eos_token_ids, checkpoint.config.max_position);
    if (!requests.ok()) {
      return absl::Status(requests.status().code(),
                          absl::StrCat(path, ": ", requests.status().message()));
    }
    add(*requests);
  }
  for (const auto& [path, questions] : inputs.tasks) add(RequestsOfTask(tokenizer, questions));
  return all;
}

// Bytes of a cache for the requests that are computed at the same time.
absl::StatusOr<int64_t> CacheBytes(const EvalFlags& flags, const Checkpoint& checkpoint,
                                   const EvalRequests& requests, const KvLayout& layout,
                                   const ModelLimits& limits) {
  MEA_ASSIGN_OR_RETURN(const auto dtype, ParseWeightDType(flags.weight_dtype));
  MEA_ASSIGN_OR_RETURN(const int64_t weights,
                       PlannedWeightBytes(checkpoint, {.weight_dtype = dtype}));
  const int64_t at_once = std::min<int64_t>(requests.count, limits.max_num_seqs);
  const int64_t pages_of_longest = layout.PagesFor(requests.longest);
  const absl::StatusOr<int64_t> bytes =
      FitKvCache({.weights_bytes = weights,
                  .workspace_bytes = Stage::PlannedWorkspaceBytes(
                      checkpoint.config, limits, AllLayers(checkpoint.config), Device::kCpu),
                  .page_bytes = layout.PageBytes(),
                  .wanted_bytes = at_once * pages_of_longest * layout.PageBytes(),
                  .asked_bytes = flags.kv_cache_bytes},
                 ReadMachineLimits());
  if (bytes.ok() && *bytes < pages_of_longest * layout.PageBytes()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("a KV cache of ", HumanBytes(*bytes), " is less than the ",
                     HumanBytes(pages_of_longest * layout.PageBytes()), " of the longest text, ",
                     requests.longest, " tokens; see --kv-cache-bytes, --max-context"));
  }
  return bytes;
}

absl::StatusOr<EvalEngine> MakeEngine(const EvalFlags& flags, const EvalInputs& inputs) {
  EvalEngine engine;
  MEA_RETURN_IF_ERROR(CheckModelDir(flags.model_dir));
  MEA_ASSIGN_OR_RETURN(Checkpoint checkpoint, OpenCheckpoint(flags.model_dir));
  ModelConfig& config = checkpoint.config;
  MEA_RETURN_IF_ERROR(SetContext("--max-context", flags.max_context, config));
  for (const std::string& warning : checkpoint.warnings) {
    std::fprintf(stderr, "mea eval: warning: %s\n", warning.c_str());
  }
  MEA_ASSIGN_OR_RETURN(const KvDTypes kv_dtype, ParseKvDType(flags.kv_dtype));
  MEA_ASSIGN_OR_RETURN(engine.tokenizer, Tokenizer::Load(flags.model_dir + "/tokenizer.json"));
  const ModelLimits& limits = flags.limits;
  const KvLayout layout = MakeKvLayout(config, kv_dtype, limits);
  MEA_ASSIGN_OR_RETURN(const auto requests, RequestsOf(inputs, *engine.tokenizer, checkpoint));
  MEA_ASSIGN_OR_RETURN(const int64_t cache_bytes,
                       CacheBytes(flags, checkpoint, requests, layout, limits));

  MEA_ASSIGN_OR_RETURN(engine.backend, CreateCpuBackend({.num_threads = flags.num_threads}));
  MEA_ASSIGN_OR_RETURN(engine.model,
                       LoadModel(checkpoint, flags.weight_dtype, engine.backend.get(), limits));
  MEA_ASSIGN_OR_RETURN(engine.kv, CreateKvCache(*engine.backend, layout, cache_bytes));
  engine.core =
      std::make_unique<EngineCore>(engine.model.get(), engine.kv.get(), limits.max_num_seqs,
                                   checkpoint.generation.eos_token_ids);
  engine.end_tokens = checkpoint.generation.eos_token_ids;
  return engine;
}

absl::Status ScoreAll(const EvalInputs& inputs, EvalEngine& engine,
                      nlohmann::ordered_json& report) {
  for (const auto& [path, text] : inputs.texts) {
    const absl::StatusOr<TextScore> score =
        ScoreText(*engine.core, *engine.tokenizer, text, engine.end_tokens);
    if (!score.ok()) {
      return absl::Status(score.status().code(),
                          absl::StrCat(path, ": ", score.status().message()));
    }
    report["texts"].push_back({{"file", path},
                               {"tokens", score->num_tokens},
                               {"bytes", score->num_bytes},
                               {"nats_per_token", score->nats_per_token()},
                               {"nats_per_byte", score->nats_per_byte()}});
  }
  for (const auto& [path, questions] : inputs.tasks) {
    const absl::StatusOr<TaskScore> score = ScoreTask(*engine.core, *engine.tokenizer, questions);
    if (!score.ok()) {
      return absl::Status(score.status().code(),
                          absl::StrCat(path, ": ", score.status().message()));
    }
    report["tasks"].push_back({{"file", path},
                               {"questions", score->num_questions},
                               {"correct", score->num_correct},
                               {"accuracy", score->accuracy()}});
  }
  return absl::OkStatus();
}

void Print(const nlohmann::ordered_json& report) {
  std::printf("%-28s %lld bytes per token, uncompressed %lld\n", "KV cache",
              report["kv_bytes_per_token"].get<long long>(),
              report["kv_bytes_per_token_uncompressed"].get<long long>());
  const auto name = [](const nlohmann::ordered_json& row) {
    return std::filesystem::path(row["file"].get<std::string>()).filename().string();
  };
  for (const auto& row : report.value("texts", nlohmann::ordered_json::array())) {
    std::printf("%-28s %.4f nats per token, %.4f per byte\n", name(row).c_str(),
                row["nats_per_token"].get<double>(), row["nats_per_byte"].get<double>());
  }
  for (const auto& row : report.value("tasks", nlohmann::ordered_json::array())) {
    std::printf("%-28s %.1f %% (%d of %d)\n", name(row).c_str(),
                100 * row["accuracy"].get<double>(), row["correct"].get<int>(),
                row["questions"].get<int>());
  }
}

absl::Status Eval(EvalFlags flags) {
  if (!flags.kv_sweep.formats.empty()) {
    if (flags.texts.size() != 1) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--kv-sweep compares on one text: --text is given ", flags.texts.size(), " times"));
    }
    MEA_ASSIGN_OR_RETURN(std::string text, ReadFile(flags.texts[0]));
    return SweepKv(
        flags.kv_sweep, flags.json,
        {.model = flags.model_dir, .text = std::move(text), .num_threads = flags.num_threads});
  }
  if (flags.texts.empty() && flags.tasks.empty()) {
    return absl::InvalidArgumentError("nothing to measure: give --text or --task");
  }
  MEA_ASSIGN_OR_RETURN(flags.limits, ResolveLimits(flags.limits, Device::kCpu));
  MEA_ASSIGN_OR_RETURN(const EvalInputs inputs, ReadInputs(flags));
  MEA_ASSIGN_OR_RETURN(EvalEngine engine, MakeEngine(flags, inputs));
  const KvLayout& layout = engine.kv->layout();
  nlohmann::ordered_json report = {
      {"model", flags.model_dir},
      {"kv_bytes_per_token", layout.BytesPerToken()},
      {"kv_bytes_per_token_uncompressed", layout.UncompressedBytesPerToken()}};
  MEA_RETURN_IF_ERROR(ScoreAll(inputs, engine, report));
  if (flags.json) {
    std::printf("%s\n", report.dump(2).c_str());
  } else {
    Print(report);
  }
  return absl::OkStatus();
}

}  // namespace

void AddEval(CLI::App& program, Action& action) {
  CLI::App& command =
      *program.add_subcommand("eval", "Measure loss on texts and accuracy on tasks");
  command.footer(kEvalExamples);
  auto flags = std::make_shared<EvalFlags>();
  AddModelDir(command, flags->model_dir).required();
  command.add_option("--text", flags->texts, "Text to measure the loss on; may be repeated")
      ->type_name("FILE");
  command.add_option("--task", flags->tasks, "Questions and answers; may be repeated")
      ->type_name("FILE.jsonl");
  AddWeightDType(command, flags->weight_dtype);
  AddKvDType(command, flags->kv_dtype);
  AddKvSweep(command, flags->kv_sweep);
  AddKvCacheBytes(command, flags->kv_cache_bytes,
                  "what the texts need, at most a quarter of the machine's or container's memory");
  command
      .add_option("--max-context", flags->max_context,
                  "Tokens of one window of a text; 0: the model's context")
      ->check(InRange(0, 1 << 30))
      ->capture_default_str();
  AddMaxNumSeqs(command, flags->limits.max_num_seqs);
  AddMaxBatchTokens(command, flags->limits.max_batch_tokens);
  AddThreads(command, flags->num_threads);
  command.add_flag("--json", flags->json, "Print the results as JSON");
  command.callback([flags, &action] { action = [flags] { return Eval(*flags); }; });
}

}  // namespace mea
