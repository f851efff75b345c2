#include "engine/checkpoint/checkpoint.h"

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/config_reader.h"
#include "engine/checkpoint/generation_reader.h"

namespace mea {
namespace {

// Where h' = h the configuration leaves open whether W_lc is the identity: its tensor tells.
void SettleMixes(const SafeTensors& tensors, ModelConfig& config) {
  if (config.composition() != "mea") return;
  for (int layer = 0; layer < config.num_layers; ++layer) {
    const std::string prefix = absl::StrCat("model.layers.", layer, ".self_attn.");
    LayerHeads& heads = config.layer_heads[layer];
    heads.key_mix |= tensors.Find(prefix + "k_hlc.weight") != nullptr;
    heads.value_mix |= tensors.Find(prefix + "v_hlc.weight") != nullptr;
  }
}

}  // namespace

absl::StatusOr<Checkpoint> OpenCheckpoint(const std::filesystem::path& dir,
                                          const std::string& generation_config) {
  absl::StatusOr<ModelConfig> config = ReadModelConfig(dir / "config.json");
  if (!config.ok()) return config.status();
  absl::StatusOr<GenerationDefaults> generation =
      ReadGenerationDefaults(dir, *config, generation_config);
  if (!generation.ok()) return generation.status();
  absl::StatusOr<SafeTensors> tensors = SafeTensors::Open(dir);
  if (!tensors.ok()) return tensors.status();
  SettleMixes(*tensors, *config);
  return Checkpoint{.dir = dir,
                    .config = *std::move(config),
                    .generation = *std::move(generation),
                    .tensors = *std::move(tensors)};
}

}  // namespace mea
