#include "kernels/cuda/attention/expand.h"

#include "kernels/cuda/attention/expand_integers.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/simt.h"

namespace mea::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = SlabLayout::kTileTokens;
constexpr int kHeadsAtOnce = 4;  // virtual heads that one reading of the components makes
constexpr int kLoads = 4;        // under way, each of one component

// A granule of 8 elements.
struct Granule {
  float x[8];
};

__device__ Granule Unpack(uint4 packed) {
  const float2 a = UnpackBf16(packed.x);
  const float2 b = UnpackBf16(packed.y);
  const float2 c = UnpackBf16(packed.z);
  const float2 d = UnpackBf16(packed.w);
  return {{a.x, a.y, b.x, b.y, c.x, c.y, d.x, d.y}};
}

__device__ uint4 Pack(const Granule& granule, float factor) {
  uint4 packed;
  packed.x = PackBf16(granule.x[0] * factor, granule.x[1] * factor);
  packed.y = PackBf16(granule.x[2] * factor, granule.x[3] * factor);
  packed.z = PackBf16(granule.x[4] * factor, granule.x[5] * factor);
  packed.w = PackBf16(granule.x[6] * factor, granule.x[7] * factor);
  return packed;
}

// The layout is the same on both sides, so a thread makes one granule of every virtual head from
// the granules at the same place of the components. A block has kThreads granules of one tile.
__global__ void __launch_bounds__(kThreads) Expand(const __grid_constant__ ExpandParams p) {
  WaitForPrevious();
  LetNextStart();
  const SlabLayout layout = {p.page_size, p.head_dim};
  const int tile = p.tokens.begin / kTile + static_cast<int>(blockIdx.x);
  const int granule = static_cast<int>(blockIdx.y * kThreads + threadIdx.x);
  const int offset = granule * SlabLayout::kGranuleElements;
  const int token = tile * kTile + offset / SlabLayout::kChunkElements % kTile;
  const int page = p.pages[tile * kTile / p.page_size];
  const Bf16* source = static_cast<const Bf16*>(p.slabs) + layout.SlabBegin(page, p.num_heads, 0) +
                       tile * kTile % p.page_size * p.head_dim + offset;
  Bf16* out = p.out + int64_t{tile} * p.kv_heads * layout.tile_elements() + offset;
  for (int first = 0; first < p.kv_heads; first += kHeadsAtOnce) {
    Granule heads[kHeadsAtOnce] = {};
    for (int begin = 0; begin < p.num_heads; begin += kLoads) {
      uint4 packed[kLoads];
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {  // beyond the last component it once more, unused
        const int c = begin + i < p.num_heads ? begin + i : p.num_heads - 1;
        packed[i] = LoadGlobal128(source + int64_t{c} * layout.slab_elements());
      }
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        if (begin + i >= p.num_heads) break;
        const Granule component = Unpack(packed[i]);
#pragma unroll
        for (int h = 0; h < kHeadsAtOnce; ++h) {
          if (first + h >= p.kv_heads) break;
          const float weight = MixWeight(p.mix, p.kv_heads, begin + i, first + h);
#pragma unroll
          for (int e = 0; e < 8; ++e) heads[h].x[e] += weight * component.x[e];
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kHeadsAtOnce; ++i) {
      const int g = first + i;
      if (g >= p.kv_heads) break;
      float norm = 1.0f;
      if (p.norms != nullptr) {
        norm = p.norms[(int64_t{page} * p.kv_heads + g) * p.page_size + token % p.page_size];
      }
      *reinterpret_cast<uint4*>(out + int64_t{g} * layout.tile_elements()) = Pack(heads[i], norm);
    }
  }
}

}  // namespace

cudaError_t LaunchExpand(const ExpandParams& params, cudaStream_t stream) {
  if (params.dtype != DType::kBf16) return LaunchExpandIntegers(params, stream);
  const TokenRange tokens = params.tokens;
  const int num_tiles = (tokens.end + kTile - 1) / kTile - tokens.begin / kTile;
  const int granules = kTile * params.head_dim / SlabLayout::kGranuleElements;
  return Launch(
      {.grid = dim3(static_cast<unsigned>(num_tiles), static_cast<unsigned>(granules / kThreads)),
       .block = dim3(kThreads),
       .stream = stream},
      Expand, params);
}

}  // namespace mea::cuda
