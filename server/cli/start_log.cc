#include "server/cli/start_log.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/sampling_defaults.h"

namespace mea {
namespace {

void LogMachine(const MachineLimits& machine, const EngineOptions& options, Log& log) {
  log.Write(LogLevel::kInfo, "machine",
            {{"memory_bytes", machine.memory_bytes},
             {"memory_limit", machine.memory_source},
             {"available_bytes", machine.available_bytes},
             {"cpus", machine.cpus},
             {"cpus_limit", machine.cpus_source},
             {"threads", options.num_threads},
             {"clusters", options.num_clusters}});
}

void LogWarnings(const Engine& engine, int tokenizer_size, Log& log) {
  for (const std::string& warning : engine.options().warnings) {
    log.Write(LogLevel::kWarning, "checkpoint", {{"message", warning}});
  }
  const int vocab_size = engine.config().vocab_size;
  if (tokenizer_size <= vocab_size) return;
  log.Write(LogLevel::kWarning, "checkpoint",
            {{"message", absl::StrCat("tokenizer.json has ids up to ", tokenizer_size - 1,
                                      ", the model up to ", vocab_size - 1,
                                      ": prompts with the others are refused")}});
}

void LogDefaults(const Engine& engine, Log& log) {
  const GenerationDefaults& defaults = engine.generation_defaults();
  const SamplingParams sampling = DefaultSampling(defaults);
  log.Write(LogLevel::kInfo, "defaults",
            {{"file", defaults.file},
             {"temperature", absl::StrCat(sampling.temperature)},
             {"top_k", sampling.top_k},
             {"top_p", absl::StrCat(sampling.top_p)},
             {"min_p", absl::StrCat(sampling.min_p)},
             {"repetition_penalty", absl::StrCat(sampling.repetition_penalty)},
             {"max_tokens", defaults.max_new_tokens ? absl::StrCat(*defaults.max_new_tokens) : ""},
             {"end_tokens", absl::StrJoin(defaults.eos_token_ids, ",")}});
}

void LogSteps(const EngineOptions& options, Log& log) {
  std::string target = "auto";
  if (options.target_itl == absl::InfiniteDuration()) {
    target = "off";
  } else if (options.target_itl) {
    target = absl::FormatDuration(*options.target_itl);
  }
  log.Write(LogLevel::kInfo, "steps",
            {{"max_num_seqs", options.max_num_seqs},
             {"max_batch_tokens", options.max_batch_tokens},
             {"target_itl", target}});
}

}  // namespace

void LogStart(const MachineLimits& machine, const Engine& engine, const Tokenizer& tokenizer,
              Log& log) {
  LogMachine(machine, engine.options(), log);
  LogDefaults(engine, log);
  LogSteps(engine.options(), log);
  LogWarnings(engine, tokenizer.vocab_size(), log);
}

}  // namespace mea
