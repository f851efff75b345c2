#include "engine/family/families.h"

namespace mea {

// Norms follow the blocks, and the norms of queries and keys cover all heads together.
const Family kOlmo2 = {.name = "olmo2",
                       .layers = {.input_norm = "",
                                  .attention_output_norm = "post_attention_layernorm",
                                  .ffn_norm = "",
                                  .ffn_output_norm = "post_feedforward_layernorm",
                                  .qk_row_norm = true},
                       .default_max_position = 2048,
                       .default_eps = 1e-5,
                       .reads_attention_bias = true};

}  // namespace mea
