#include "kernels/cuda/attention/expand_integers.h"

#include "kernels/cuda/attention/integer_slab.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/simt.h"

namespace mea::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = SlabLayout::kTileTokens;
constexpr int kChunk = SlabLayout::kChunkElements;
constexpr int kHeadsAtOnce = 4;  // virtual heads that one reading of the components makes
constexpr int kLanes = 8;        // of a token, each with 8 neighbours of every chunk

template <int kChunks>
struct Elements {
  float x[kChunks][8];
};

// This lane's elements of one component, scaled.
template <DType dtype, int kChunks>
__device__ Elements<kChunks> Load(const IntegerSlab& layout, const std::byte* slab, int token,
                                  int first) {
  Elements<kChunks> elements;
  const float scale = Widen(*reinterpret_cast<const Bf16*>(slab + layout.Scale(token)));
  if constexpr (dtype == DType::kI8) {
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const uint2 bytes =
          *reinterpret_cast<const uint2*>(slab + layout.Offset(token, c * kChunk + first));
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        const uint32_t word = e < 4 ? bytes.x : bytes.y;
        elements.x[c][e] = scale * static_cast<float>(static_cast<int8_t>(word >> e % 4 * 8));
      }
    }
  } else {
    const float zero = Widen(*reinterpret_cast<const Bf16*>(slab + layout.Zero(token)));
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const uint32_t word =
          *reinterpret_cast<const uint32_t*>(slab + layout.Offset(token, c * kChunk + first));
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        elements.x[c][e] = scale * static_cast<float>(word >> e * 4 & 15) + zero;
      }
    }
  }
  return elements;
}

// RotateHadamard of kernels/int4_heads.h of a token's elements, which eight lanes hold.
template <int kChunks>
__device__ void RotateBack(Elements<kChunks>& elements, int lane) {
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
#pragma unroll
    for (int half = 1; half < 8; half *= 2) {
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        if ((e & half) != 0) continue;
        const float first = elements.x[c][e];
        const float second = elements.x[c][e + half];
        elements.x[c][e] = first + second;
        elements.x[c][e + half] = first - second;
      }
    }
#pragma unroll
    for (int mask = 1; mask < kLanes; mask *= 2) {
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        const float own = elements.x[c][e];
        const float other = ShflXor(own, mask);
        elements.x[c][e] = (lane & mask) == 0 ? own + other : other - own;
      }
    }
  }
  constexpr float kScale = kChunks == 1 ? 0.125f : 0.08838834764831845f;  // 1 / sqrt(head_dim)
#pragma unroll
  for (int e = 0; e < 8; ++e) {
    if constexpr (kChunks == 2) {
      const float first = elements.x[0][e];
      elements.x[0][e] = first + elements.x[1][e];
      elements.x[1][e] = first - elements.x[1][e];
    }
#pragma unroll
    for (int c = 0; c < kChunks; ++c) elements.x[c][e] *= kScale;
  }
}

// A block makes the virtual heads of 32 tokens of a tile.
template <DType dtype, int kChunks>
__global__ void __launch_bounds__(kThreads) ExpandIntegers(const __grid_constant__ ExpandParams p) {
  WaitForPrevious();
  LetNextStart();
  const IntegerSlab layout = {p.page_size, p.head_dim, dtype};
  const int tile = p.tokens.begin / kTile + static_cast<int>(blockIdx.x);
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int row = static_cast<int>(blockIdx.y * (kThreads / kLanes) + threadIdx.x / kLanes);
  const int token = tile * kTile % p.page_size + row;  // of the page
  const int page = p.pages[tile * kTile / p.page_size];
  const std::byte* slabs =
      static_cast<const std::byte*>(p.slabs) + layout.Begin(page, p.num_heads, 0);
  Bf16* out = p.out + int64_t{tile} * p.kv_heads * kTile * p.head_dim;
#pragma unroll 1
  for (int first = 0; first < p.kv_heads; first += kHeadsAtOnce) {
    Elements<kChunks> heads[kHeadsAtOnce] = {};
    // Without a mix a head is its component, whatever the others hold.
    const int begin = p.mix == nullptr ? first : 0;
    const int last = first + kHeadsAtOnce < p.num_heads ? first + kHeadsAtOnce : p.num_heads;
    const int end = p.mix == nullptr ? last : p.num_heads;
    for (int c = begin; c < end; ++c) {
      const auto component =
          Load<dtype, kChunks>(layout, slabs + int64_t{c} * layout.bytes(), token, lane * 8);
#pragma unroll
      for (int h = 0; h < kHeadsAtOnce; ++h) {
        if (first + h >= p.kv_heads || (p.mix == nullptr && c != first + h)) continue;
        const float weight = MixWeight(p.mix, p.kv_heads, c, first + h);
#pragma unroll
        for (int i = 0; i < kChunks; ++i) {
#pragma unroll
          for (int e = 0; e < 8; ++e) heads[h].x[i][e] += weight * component.x[i][e];
        }
      }
    }
#pragma unroll
    for (int h = 0; h < kHeadsAtOnce; ++h) {
      const int g = first + h;
      if (g >= p.kv_heads) break;
      if constexpr (dtype == DType::kI4) RotateBack(heads[h], lane);
      float norm = 1.0f;
      if (p.norms != nullptr)
        norm = p.norms[(int64_t{page} * p.kv_heads + g) * p.page_size + token];
#pragma unroll
      for (int i = 0; i < kChunks; ++i) {
        const float(&x)[8] = heads[h].x[i];
        const uint4 packed = {
            PackBf16(x[0] * norm, x[1] * norm), PackBf16(x[2] * norm, x[3] * norm),
            PackBf16(x[4] * norm, x[5] * norm), PackBf16(x[6] * norm, x[7] * norm)};
        *reinterpret_cast<uint4*>(out + int64_t{g} * kTile * p.head_dim +
                                  SlabLayout::TileOffset(row, i * kChunk + lane * 8)) = packed;
      }
    }
  }
}

template <DType dtype>
cudaError_t LaunchFormat(const ExpandParams& params, cudaStream_t stream) {
  const TokenRange tokens = params.tokens;
  const int num_tiles = (tokens.end + kTile - 1) / kTile - tokens.begin / kTile;
  return Launch({.grid = dim3(static_cast<unsigned>(num_tiles), kTile * kLanes / kThreads),
                 .block = dim3(kThreads),
                 .stream = stream},
                params.head_dim == kChunk ? ExpandIntegers<dtype, 1> : ExpandIntegers<dtype, 2>,
                params);
}

}  // namespace

cudaError_t LaunchExpandIntegers(const ExpandParams& params, cudaStream_t stream) {
  if (params.dtype == DType::kI8) return LaunchFormat<DType::kI8>(params, stream);
  return LaunchFormat<DType::kI4>(params, stream);
}

}  // namespace mea::cuda
