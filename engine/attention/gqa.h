#pragma once

#include "engine/attention/variant.h"

namespace mea {

// Grouped-query attention (and multi-head, its case of one query head per KV head): what is cached
// is what is attended.
class GqaAttention final : public AttentionVariant {};

}  // namespace mea
