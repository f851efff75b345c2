#pragma once

#include <vector>

#include "tests/kernels/attention_case.h"

namespace mea {

// A decode row, a speculated handful, a prefill chunk and a whole short prompt, in one batch.
inline const std::vector<AttentionCase::Sequence> kMixedBatch = {
    {.kv_len = 150, .q_len = 1}, {.kv_len = 33, .q_len = 3}, {.kv_len = 100, .q_len = 21},
    {.kv_len = 7, .q_len = 7},   {.kv_len = 1, .q_len = 1},  {.kv_len = 640, .q_len = 2}};

// Each format of keys and of values, which meet in scores and weights alone.
inline const KvDTypes kFormats[] = {
    DType::kF32, DType::kBf16, DType::kI8, DType::kI4, {DType::kBf16, DType::kI4}};

inline AttentionCase Interleaved(int h, int pseudo_heads, int head_dim, int window) {
  return {.q_heads = pseudo_heads * h,
          .kv_heads = h,
          .key_heads = h,
          .value_heads = h,
          .head_dim = head_dim,
          .dtype = DType::kBf16,
          .window = window,
          .pseudo_heads = pseudo_heads};
}

}  // namespace mea
