#pragma once

#include "kernels/cuda/attention/params.h"

namespace mea::cuda {

// The query heads that one block of threads attends together, as rows of its products, and the
// components that they need. With a mix every head needs every component; without one the heads of
// a virtual head need only that one, and nothing else is read.
struct HeadBlock {
  static constexpr int kMaxHeads = 64;

  int first_head;
  int num_heads;
  int key_begin;  // components [key_begin, key_begin + num_keys)
  int num_keys;
  int value_begin;
  int num_values;

  // Query heads that share their components.
  __host__ __device__ static constexpr int SharingHeads(const AttentionParams& p) {
    return p.is_plain() ? p.group() : p.q_heads;
  }
  __host__ __device__ static constexpr int BlocksPerSharing(const AttentionParams& p) {
    return (SharingHeads(p) + kMaxHeads - 1) / kMaxHeads;
  }
  // Blocks that all heads of a row make.
  __host__ __device__ static constexpr int Count(const AttentionParams& p) {
    return BlocksPerSharing(p) * (p.is_plain() ? p.kv_heads : 1);
  }
  __host__ __device__ static constexpr HeadBlock At(const AttentionParams& p, int index) {
    const int blocks = BlocksPerSharing(p);
    const int g = index / blocks;  // 0 with a mix
    const int begin = index % blocks * kMaxHeads;
    const int left = SharingHeads(p) - begin;
    const int num_heads = left < kMaxHeads ? left : kMaxHeads;
    if (!p.is_plain()) return {begin, num_heads, 0, p.key_heads, 0, p.value_heads};
    return {g * p.group() + begin, num_heads, g, 1, g, 1};
  }
};

}  // namespace mea::cuda
