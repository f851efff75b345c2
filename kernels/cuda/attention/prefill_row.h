#pragma once

#include "kernels/cuda/attention/mma_tile.h"
#include "kernels/cuda/attention/prefill.h"
#include "kernels/cuda/device/simt.h"

namespace mea::cuda {

// A row of a prefill kernel: one query position of one query head.
struct PrefillRow {
  bool valid;  // rows after the chunk repeat its last
  int query;   // row of q and out
  int head;    // query head
  TokenRange visible;

  // Row `index` of virtual head g: position * group + head of the group.
  __device__ static PrefillRow At(const PrefillParams& params, int g, int index) {
    const AttentionParams& p = params.attention;
    const int group = p.group();
    const int last = params.num_rows() - 1;
    const int clamped = index < last ? index : last;
    const int position = clamped / group;
    return {.valid = index <= last,
            .query = params.q_begin + position,
            .head = g * group + clamped % group,
            .visible = VisibleTokens(params.kv_len, params.q_len, position, p.window)};
  }

  // The tokens that any of the rows [first, first + num_rows) sees, and those that all of them see.
  __device__ static TokenRange AnySees(const PrefillParams& params, int g, int first,
                                       int num_rows) {
    return {At(params, g, first).visible.begin, At(params, g, first + num_rows - 1).visible.end};
  }
  __device__ static TokenRange AllSee(const PrefillParams& params, int g, int first, int num_rows) {
    return {At(params, g, first + num_rows - 1).visible.begin, At(params, g, first).visible.end};
  }
};

// Writes a row's result o / sum, head norm included. Its four lanes hold neighbours in pairs, as
// the products leave them: element(b, e) is element 8 b + lane % 4 * 2 + e of o, `sum` is that of
// the lane's tokens.
template <int head_dim, class Element>
__device__ __forceinline__ void WriteRow(const AttentionParams& p, const PrefillRow& row, int lane,
                                         float sum, Element element) {
  float scale = Rcp(QuadSum(sum));
  if (p.head_norm_gain != nullptr) {
    float squares = 0.0f;
#pragma unroll
    for (int b = 0; b < head_dim / 8; ++b) {
      squares += element(b, 0) * element(b, 0) + element(b, 1) * element(b, 1);
    }
    const float mean = QuadSum(squares) * scale * scale / head_dim;
    scale *= Rsqrt(mean + p.head_norm_eps);
  }
  if (!row.valid) return;
  uint32_t* out = reinterpret_cast<uint32_t*>(p.Out(row.query, row.head)) + lane % 4;
  const float* gain = p.head_norm_gain + int64_t{row.head} * head_dim + lane % 4 * 2;
#pragma unroll
  for (int b = 0; b < head_dim / 8; ++b) {
    float2 x = {element(b, 0) * scale, element(b, 1) * scale};
    if (p.head_norm_gain != nullptr) x = {x.x * gain[b * 8], x.y * gain[b * 8 + 1]};
    out[b * 4] = PackBf16(x.x, x.y);
  }
}

}  // namespace mea::cuda
