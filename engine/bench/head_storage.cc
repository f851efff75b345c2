#include "engine/bench/head_storage.h"

#include <array>

#include "absl/strings/str_cat.h"
#include "engine/attention/mea.h"
#include "kernels/status_macros.h"

namespace mea {
absl::StatusOr<HeadStorage> ParseUncompressed(const std::string& name) {
  if (name == "one-hot") return HeadStorage::kOneHot;
  if (name == "plain") return HeadStorage::kPlain;
  return absl::InvalidArgumentError(
      absl::StrCat("--uncompressed \"", name, "\" is none of one-hot, plain"));
}

std::string StorageName(HeadStorage storage, const ModelConfig& config) {
  switch (storage) {
    case HeadStorage::kAsConfigured:
      if (config.composition == "iha") return "iha";
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
  config.composition = mixed ? "mea" : "none";
  config.attention = mixed ? std::make_shared<const MeaAttention>() : nullptr;
  config.layer_heads.assign(config.num_layers, {.key_heads = config.kv_heads,
                                                .value_heads = config.kv_heads,
                                                .key_mix = mixed,
                                                .value_mix = mixed});
  return config;
}

absl::Status MakeMixesOneHot(ModelWeights& weights, Backend& backend) {
  for (LayerWeights& layer : weights.layers) {
    for (const TensorView& mix : {layer.mix.key, layer.mix.value}) {
      if (mix.empty()) continue;
      const int64_t heads = mix.shape[0];
      MEA_CHECK(mix.shape[1] == heads);
      const std::array<int64_t, 2> shape = {heads, heads};
      MEA_ASSIGN_OR_RETURN(const Tensor identity, Tensor::AllocateHost(shape, DType::kF32));
      for (int64_t head = 0; head < heads; ++head) identity.view().row<float>(head)[head] = 1;
      backend.Upload(identity.view(), mix);
      MEA_RETURN_IF_ERROR(backend.Synchronize());
    }
  }
  return absl::OkStatus();
}

}  // namespace mea
