#include "engine/attention/variant.h"

#include "engine/attention/gqa.h"
#include "engine/attention/mea.h"

namespace mea {

std::unique_ptr<AttentionVariant> CreateAttentionVariant(const ModelConfig& config) {
  if (config.model_type == "mea") return std::make_unique<MeaAttention>();
  return std::make_unique<GqaAttention>();
}

}  // namespace mea
