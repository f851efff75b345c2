#include "engine/bench/head_storage.h"

#include "absl/strings/str_cat.h"

namespace mea {
namespace {

void MakeIdentity(TensorView mix) {
  if (mix.empty()) return;
  MEA_CHECK(mix.shape[0] == mix.shape[1]);
  for (int64_t c = 0; c < mix.shape[0]; ++c) {
    for (int64_t g = 0; g < mix.shape[1]; ++g) mix.row<float>(c)[g] = c == g ? 1.0f : 0.0f;
  }
}

}  // namespace

absl::StatusOr<HeadStorage> ParseUncompressed(const std::string& name) {
  if (name == "one-hot") return HeadStorage::kOneHot;
  if (name == "plain") return HeadStorage::kPlain;
  return absl::InvalidArgumentError(
      absl::StrCat("--uncompressed \"", name, "\" is none of one-hot, plain"));
}

std::string StorageName(HeadStorage storage, const ModelConfig& config) {
  switch (storage) {
    case HeadStorage::kAsConfigured:
      return config.compressed() ? "mea" : "plain";
    case HeadStorage::kOneHot:
      return "one-hot";
    case HeadStorage::kPlain:
      return "plain";
  }
  return "?";
}

ModelConfig WithStorage(ModelConfig config, HeadStorage storage) {
  if (storage == HeadStorage::kAsConfigured) return config;
  const bool mixed = storage == HeadStorage::kOneHot;
  if (mixed) config.model_type = "mea";
  config.layer_heads.assign(config.num_layers, {.key_heads = config.kv_heads,
                                                .value_heads = config.kv_heads,
                                                .key_mix = mixed,
                                                .value_mix = mixed});
  return config;
}

void MakeMixesOneHot(ModelWeights& weights) {
  for (LayerWeights& layer : weights.layers) {
    MakeIdentity(layer.mix.key);
    MakeIdentity(layer.mix.value);
  }
}

}  // namespace mea
