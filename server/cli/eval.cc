#include "engine/eval.h"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/load.h"
#include "engine/text/tokenizer.h"
#include "server/cli/command.h"

namespace mea {
namespace {

constexpr char kEvalExamples[] = R"(
Examples:
  mea eval models/demo-mea --text models/eval/heldout.txt
  mea eval models/demo-mea --task models/eval/recall.jsonl --task models/eval/copy.jsonl --json

A task is a file of lines {"prompt": "...", "answer": "..."}; a question is solved when the greedy
continuation of its prompt begins with the answer.
)";

struct EvalFlags {
  std::string model_dir;
  std::vector<std::string> texts;
  std::vector<std::string> tasks;
  std::string weight_dtype = "auto";
  std::string kv_dtype = "bf16";
  int num_threads = 0;
  bool json = false;
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

absl::StatusOr<EvalEngine> MakeEngine(const EvalFlags& flags) {
  constexpr int kPageSize = 32;
  constexpr int kMaxNumSeqs = 16;
  constexpr int kMaxBatchTokens = 512;
  EvalEngine engine;
  const absl::StatusOr<Checkpoint> checkpoint = OpenCheckpoint(flags.model_dir);
  if (!checkpoint.ok()) return checkpoint.status();
  const absl::StatusOr<DType> kv_dtype = ParseKvDType(flags.kv_dtype);
  if (!kv_dtype.ok()) return kv_dtype.status();
  auto tokenizer = Tokenizer::Load(flags.model_dir + "/tokenizer.json");
  if (!tokenizer.ok()) return tokenizer.status();
  engine.tokenizer = *std::move(tokenizer);
  auto backend = CreateCpuBackend({.num_threads = flags.num_threads});
  if (!backend.ok()) return backend.status();
  engine.backend = *std::move(backend);
  auto model = LoadModel(*checkpoint, flags.weight_dtype, engine.backend.get(),
                         {.max_batch_tokens = kMaxBatchTokens,
                          .max_num_seqs = kMaxNumSeqs,
                          .max_logit_rows = kMaxNumSeqs});
  if (!model.ok()) return model.status();
  engine.model = *std::move(model);
  const KvLayout layout = engine.model->MakeKvLayout(*kv_dtype, kPageSize);
  auto kv = CreateKvCache(
      *engine.backend, layout,
      kMaxNumSeqs * layout.PagesFor(checkpoint->config.max_position) * layout.PageBytes());
  if (!kv.ok()) return kv.status();
  engine.kv = *std::move(kv);
  engine.core = std::make_unique<EngineCore>(engine.model.get(), engine.kv.get(), kMaxNumSeqs,
                                             checkpoint->generation.eos_token_ids);
  engine.end_tokens = checkpoint->generation.eos_token_ids;
  return engine;
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat(path, ": cannot be read"));
  return std::string(std::istreambuf_iterator<char>(file), {});
}

absl::Status ScoreAll(const EvalFlags& flags, EvalEngine& engine, nlohmann::ordered_json& report) {
  for (const std::string& path : flags.texts) {
    const absl::StatusOr<std::string> text = ReadFile(path);
    if (!text.ok()) return text.status();
    const absl::StatusOr<TextScore> score =
        ScoreText(*engine.core, *engine.tokenizer, *text, engine.end_tokens);
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
  for (const std::string& path : flags.tasks) {
    const absl::StatusOr<std::vector<Question>> questions = ReadQuestions(path);
    if (!questions.ok()) return questions.status();
    const absl::StatusOr<TaskScore> score = ScoreTask(*engine.core, *engine.tokenizer, *questions);
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

absl::Status Eval(const EvalFlags& flags) {
  if (flags.texts.empty() && flags.tasks.empty()) {
    return absl::InvalidArgumentError("nothing to measure: give --text or --task");
  }
  absl::StatusOr<EvalEngine> engine = MakeEngine(flags);
  if (!engine.ok()) return engine.status();
  const KvLayout& layout = engine->kv->layout();
  nlohmann::ordered_json report = {
      {"model", flags.model_dir},
      {"kv_bytes_per_token", layout.BytesPerToken()},
      {"kv_bytes_per_token_uncompressed", layout.UncompressedBytesPerToken()}};
  if (absl::Status status = ScoreAll(flags, *engine, report); !status.ok()) return status;
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
  command.add_option("model,--model", flags->model_dir, "Checkpoint directory")
      ->required()
      ->type_name("DIR");
  command.add_option("--text", flags->texts, "Text to measure the loss on; may be repeated")
      ->type_name("FILE");
  command.add_option("--task", flags->tasks, "Questions and answers; may be repeated")
      ->type_name("FILE.jsonl");
  command.add_option("--weight-dtype", flags->weight_dtype, "auto (as stored), f32, bf16, int8")
      ->capture_default_str();
  command.add_option("--kv-dtype", flags->kv_dtype, "bf16, f32, int8")->capture_default_str();
  command.add_option("--threads", flags->num_threads, "Threads; 0: one per core that it may use")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command.add_flag("--json", flags->json, "Print JSON");
  command.callback([flags, &action] { action = [flags] { return Eval(*flags); }; });
}

}  // namespace mea
