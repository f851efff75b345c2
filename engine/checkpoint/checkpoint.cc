#include "engine/checkpoint/checkpoint.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/attention/variant.h"
#include "engine/checkpoint/config_reader.h"
#include "engine/checkpoint/generation_reader.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

bool AreEqual(const StoredTensor& a, const StoredTensor& b) {
  return a.dtype == b.dtype && a.shape == b.shape &&
         std::memcmp(a.data(), b.data(), static_cast<size_t>(a.num_bytes)) == 0;
}

// An output matrix that differs from the embedding is used, as transformers 5 does, even if the
// configuration says that they are tied.
void SettleTie(const SafeTensors& tensors, ModelConfig& config,
               std::vector<std::string>& warnings) {
  if (!config.tie_word_embeddings) return;
  const StoredTensor* output = tensors.Find("lm_head.weight");
  const StoredTensor* embedding = tensors.Find("model.embed_tokens.weight");
  if (output == nullptr || embedding == nullptr || AreEqual(*output, *embedding)) return;
  config.tie_word_embeddings = false;
  warnings.push_back(absl::StrCat(tensors.source(),
                                  ": lm_head.weight differs from model.embed_tokens.weight, so "
                                  "they are not tied, though tie_word_embeddings is true"));
}

}  // namespace

absl::StatusOr<Checkpoint> OpenCheckpoint(const std::filesystem::path& dir,
                                          const std::string& generation_config) {
  MEA_ASSIGN_OR_RETURN(ModelConfig config, ReadModelConfig(dir / "config.json"));
  MEA_ASSIGN_OR_RETURN(GenerationDefaults generation,
                       ReadGenerationDefaults(dir, config, generation_config));
  MEA_ASSIGN_OR_RETURN(SafeTensors tensors, SafeTensors::Open(dir));
  AttentionOf(config).SettleLayers(tensors, config);
  std::vector<std::string> warnings;
  SettleTie(tensors, config, warnings);
  return Checkpoint{.dir = dir,
                    .config = std::move(config),
                    .generation = std::move(generation),
                    .tensors = std::move(tensors),
                    .warnings = std::move(warnings)};
}

}  // namespace mea
