#include "engine/attention/variant.h"

#include "engine/attention/gqa.h"
#include "engine/attention/iha.h"
#include "engine/attention/kha.h"
#include "engine/attention/mea.h"

namespace mea {

std::unique_ptr<AttentionVariant> CreateAttentionVariant(const ModelConfig& config) {
  const std::string composition = config.composition();
  if (composition == "mea") return std::make_unique<MeaAttention>();
  if (composition == "kha") return std::make_unique<KhaAttention>();
  if (composition == "iha") return std::make_unique<IhaAttention>();
  return std::make_unique<GqaAttention>();
}

}  // namespace mea
