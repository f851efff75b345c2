#pragma once

#include "engine/attention/variant.h"

namespace mea {

// Grouped-query attention (and multi-head, with one query head per KV head): attention sees exactly
// the cached heads.
class GqaAttention final : public AttentionVariant {};

}  // namespace mea
