#include "engine/family/families.h"

namespace mea {

const Family kQwen2 = {.name = "qwen2",
                       .default_kv_heads = 32,
                       .always_qkv_bias = true,
                       .window = WindowRule::kLastLayers};

const Family kQwen3 = {.name = "qwen3",
                       .layers = {.qk_norm = true},
                       .default_kv_heads = 32,
                       .default_head_dim = 128,
                       .reads_attention_bias = true,
                       .window = WindowRule::kLastLayers};

const Family kQwen3Moe = {.name = "qwen3_moe",
                          .layers = {.qk_norm = true},
                          .default_kv_heads = 4,
                          .reads_attention_bias = true,
                          .window = WindowRule::kEveryLayerIfUsed,
                          .experts = ExpertRule::kQwen};

}  // namespace mea
