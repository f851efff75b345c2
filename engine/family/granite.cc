#include <array>

#include "engine/family/families.h"
#include "engine/storage/field_reader.h"

namespace mea {
namespace {

constexpr NumberRange kMultiplierRange{1e-6, 1e6};
constexpr std::array<std::string_view, 4> kGraniteFields = {
    "embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling"};

void ReadGranite(FieldReader& in, ModelConfig& config) {
  config.embedding_scale = in.Number("embedding_multiplier", kMultiplierRange, 1.0);
  config.attention_scale = in.Number("attention_multiplier", kMultiplierRange, 1.0);
  config.residual_scale = in.Number("residual_multiplier", kMultiplierRange, 1.0);
  config.logit_scale = 1.0 / in.Number("logits_scaling", kMultiplierRange, 1.0);
}

}  // namespace

const Family kGranite = {.name = "granite",
                         .default_max_position = 2048,
                         .reads_attention_bias = true,
                         .reads_mlp_bias = true,
                         .own_fields = kGraniteFields,
                         .read = ReadGranite};

}  // namespace mea
