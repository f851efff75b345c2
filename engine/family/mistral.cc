#include "engine/family/families.h"

namespace mea {

const Family kMistral = {
    .name = "mistral", .default_kv_heads = 8, .window = WindowRule::kEveryLayer};

const Family kMixtral = {
    .name = "mixtral",
    .layers = {.experts = {.block = "block_sparse_moe.", .gate = "w1", .up = "w3", .down = "w2"}},
    .default_kv_heads = 8,
    .default_eps = 1e-5,
    .default_theta = 1e6,
    .window = WindowRule::kEveryLayer,
    .default_window = 0,
    .experts = ExpertRule::kMixtral};

}  // namespace mea
