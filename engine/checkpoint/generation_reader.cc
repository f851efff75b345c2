#include "engine/checkpoint/generation_reader.h"

#include "engine/storage/field_reader.h"
#include "engine/storage/file.h"
#include "engine/storage/json.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

constexpr IntRange kCountRange{0, INT32_MAX};

std::optional<float> OptionalNumber(FieldReader& in, const char* name, NumberRange range) {
  if (!in.Has(name)) return std::nullopt;
  return static_cast<float>(in.Number(name, range));
}

std::optional<int> OptionalInt(FieldReader& in, const char* name, IntRange range) {
  if (!in.Has(name)) return std::nullopt;
  return in.Int(name, range);
}

void ReadSampling(FieldReader& in, GenerationDefaults& defaults) {
  if (in.Has("do_sample")) defaults.do_sample = in.Bool("do_sample", false);
  defaults.temperature = OptionalNumber(in, "temperature", {0.0, 100.0});
  defaults.top_k = OptionalInt(in, "top_k", kCountRange);
  defaults.top_p = OptionalNumber(in, "top_p", {0.0, 1.0});
  defaults.min_p = OptionalNumber(in, "min_p", {0.0, 1.0});
  defaults.repetition_penalty = OptionalNumber(in, "repetition_penalty", {0.01, 100.0});
  defaults.max_new_tokens = OptionalInt(in, "max_new_tokens", {1, INT32_MAX});
  defaults.file = in.file();
}

absl::StatusOr<GenerationDefaults> Parse(std::string_view text, const std::string& file,
                                         const ModelConfig& config, bool end_tokens_only) {
  MEA_ASSIGN_OR_RETURN(const nlohmann::json document, ParseJson(text, file));
  FieldReader in(document, file);
  GenerationDefaults defaults;
  if (!end_tokens_only) ReadSampling(in, defaults);
  defaults.eos_token_ids = in.IntOrList("eos_token_id", {0, config.vocab_size - 1});
  if (defaults.eos_token_ids.empty()) defaults.eos_token_ids = config.eos_token_ids;
  if (!in.status().ok()) return in.status();
  return defaults;
}

}  // namespace

absl::StatusOr<GenerationDefaults> ParseGenerationDefaults(std::string_view text,
                                                           const std::string& file,
                                                           const ModelConfig& config) {
  return Parse(text, file, config, /*end_tokens_only=*/false);
}

absl::StatusOr<GenerationDefaults> ReadGenerationDefaults(const std::filesystem::path& dir,
                                                          const ModelConfig& config,
                                                          const std::string& choice) {
  const bool none = choice == "none";
  const bool own = choice.empty() || none;
  const std::string file = own ? (dir / "generation_config.json").string() : choice;
  const absl::StatusOr<std::string> text = ReadTextFile(file);
  if (own && absl::IsNotFound(text.status())) {
    return Parse("{}", file, config, /*end_tokens_only=*/true);
  }
  MEA_RETURN_IF_ERROR(text.status());
  return Parse(*text, file, config, none);
}

}  // namespace mea
