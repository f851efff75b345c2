#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "tests/kernels/cuda/tested_backend.h"
#include "tests/support/engine_harness.h"

namespace mea::testing {

// The models, kernels and formats of the cache that the engine is tested with on the CUDA back end.
struct CudaVariant {
  std::string name;
  RandomModelSpec spec;
  CudaOptions cuda = kTestedCuda;
  KvDTypes kv_dtype = DType::kBf16;
  // How much more than in BF16 logprobs may differ from the reference's, though its cache has the
  // same format. As measured; perhaps rounded activations make some integers their neighbours.
  double coarseness = 1;
};
inline void PrintTo(const CudaVariant& variant, std::ostream* out) { *out << variant.name; }

// The kernels that are not yet anybody's default.
inline constexpr CudaOptions kWgmma = [] {
  CudaOptions options = kTestedCuda;
  options.decode_kernel = CudaDecodeKernel::kWgmma;
  options.prefill_kernel = CudaPrefillKernel::kWgmma;
  return options;
}();

inline std::vector<CudaVariant> CudaVariants() {
  return {
      {"Mha", {.plain = true}},
      {"GqaQkNormBiases",
       {.q_heads = 8, .kv_heads = 2, .plain = true, .qk_norm = true, .biases = true}},
      {"Mea", {.head_norm = true}},
      {"MeaWideHeads", {.q_heads = 6, .kv_heads = 3, .head_dim = 64, .head_norm = true}},
      {"MeaUnequalBudgets", {.q_heads = 8, .key_heads = 3, .value_heads = 1, .head_norm = true}},
      {"MeaQkNorm", {.q_heads = 8, .head_dim = 64, .qk_norm = true}},
      {"MeaMixedLayersWindow",
       {.num_layers = 3, .window = 24, .plain_last_layer = true, .qk_norm = true}},
      {"GqaWgmma", {.q_heads = 8, .kv_heads = 2, .head_dim = 64, .plain = true}, kWgmma},
      {"MeaQkNormGlobalLayerWgmma",
       {.q_heads = 6,
        .kv_heads = 3,
        .head_dim = 128,
        .window = 40,
        .global_layer = 1,
        .qk_norm = true},
       kWgmma},
      {"MeaInt8",
       {.q_heads = 6, .kv_heads = 3, .head_dim = 64, .head_norm = true},
       kTestedCuda,
       DType::kI8,
       2},
      {"GqaInt8Int4",
       {.q_heads = 8, .kv_heads = 2, .head_dim = 64, .window = 40, .plain = true},
       kTestedCuda,
       {DType::kI8, DType::kI4},
       4},
      {"MeaMoe", {.head_norm = true, .num_experts = 4, .top_k = 3, .dense_first_layer = true}},
  };
}

}  // namespace mea::testing
