#include "engine/family/families.h"

namespace mea {

const Family kLlama = {.name = "llama", .reads_attention_bias = true, .reads_mlp_bias = true};

}  // namespace mea
