#pragma once

// A mixture of experts on the device: route the rows, group them by expert, multiply each group
// with its expert, add up. Grids depend on the number of rows alone, so all of it can be a graph. A
// slot is one of the experts of a row, token * top_k + i with its experts ascending; num_slots =
// num_tokens * top_k. Grouping only decides where a result is computed: in_features alone decides
// the order of its sum.

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/dtype.h"

namespace mea::cuda {

inline constexpr int kMaxTopK = 32;
inline constexpr int kMaxExperts = 1024;

// logits = x router^T, sums in F32.
struct RouterParams {
  const Bf16* x = nullptr;  // [num_tokens, in_features]
  int64_t x_stride = 0;
  const Bf16* router = nullptr;  // [num_experts, in_features]
  float* logits = nullptr;       // [num_tokens, num_experts]
  int num_tokens = 0;
  int num_experts = 0;
  int in_features = 0;  // a multiple of 8; rows start on 16-byte boundaries
};
cudaError_t LaunchRouter(const RouterParams& params, cudaStream_t stream);

// The experts of each row and their weights: MoeArgs, kernels/ops.
struct ChooseExpertsParams {
  const float* logits = nullptr;  // [num_tokens, num_experts]
  int32_t* chosen = nullptr;      // [num_slots]
  float* gates = nullptr;         // [num_slots]
  int num_tokens = 0;
  int num_experts = 0;  // at most kMaxExperts
  int top_k = 0;        // at most kMaxTopK
  bool renormalise = false;
};
cudaError_t LaunchChooseExperts(const ChooseExpertsParams& params, cudaStream_t stream);

// Some slots of one expert: those at positions [begin, end) of the order.
struct ExpertTile {
  int32_t expert;
  int32_t begin;
  int32_t end;
};

// Orders the slots by expert, stably, and cuts each expert's slots into tiles.
struct GroupSlotsParams {
  const int32_t* chosen = nullptr;  // [num_slots]
  int32_t* order = nullptr;         // [num_slots] the slot at each position
  ExpertTile* tiles = nullptr;      // [ExpertTileRoom]
  int32_t* num_tiles = nullptr;     // [1]
  int num_slots = 0;
  int num_experts = 0;
};
cudaError_t LaunchGroupSlots(const GroupSlotsParams& params, cudaStream_t stream);

// The length of tiles, from the number of slots per expert; the most tiles there may be; and the
// room for tiles with at most this many slots.
int ExpertTileRows(int num_slots, int num_experts);
int MaxExpertTiles(int num_slots, int num_experts);
int ExpertTileRoom(int num_slots, int num_experts);

// Each slot's product with its expert's matrices, dense and expert_stride apart:
//   out = silu(w x) * (up x), or w x if up is null.
struct ExpertProductParams {
  const Bf16* x = nullptr;  // [num_slots / slots_per_row, in_features]
  int64_t x_stride = 0;
  int slots_per_row = 1;
  const Bf16* w = nullptr;   // [num_experts][out_features, in_features]
  const Bf16* up = nullptr;  // likewise, or null
  int64_t expert_stride = 0;
  Bf16* out = nullptr;  // [num_slots, out_features]
  int64_t out_stride = 0;
  const int32_t* order = nullptr;  // of GroupSlots, as what follows
  const ExpertTile* tiles = nullptr;
  const int32_t* num_tiles = nullptr;
  int num_slots = 0;
  int num_experts = 0;
  int in_features = 0;  // a multiple of 8; rows start on 16-byte boundaries
  int out_features = 0;
};
cudaError_t LaunchExpertProduct(const ExpertProductParams& params, cudaStream_t stream);

// out[t] = sum_i gates[slot i of t] * rows[slot i of t], in order.
struct CombineExpertsParams {
  const Bf16* rows = nullptr;  // [num_slots, hidden]
  int64_t rows_stride = 0;
  const float* gates = nullptr;  // [num_slots]
  Bf16* out = nullptr;           // [num_tokens, hidden]
  int64_t out_stride = 0;
  int num_tokens = 0;
  int top_k = 0;
  int hidden = 0;  // a multiple of 8; rows start on 16-byte boundaries
};
cudaError_t LaunchCombineExperts(const CombineExpertsParams& params, cudaStream_t stream);

}  // namespace mea::cuda
