#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace mea::cuda {

// The order of elements inside a (page, head) slab of keys or values, BF16. Where page_size and
// head_dim are multiples of 64 the slab is
//   [page_size / 64 tiles][head_dim / 64 chunks][64 tokens][64 elements],
// and of a token's 128 bytes in a chunk the 16-byte granule g is at place g ^ (token & 7). A tile
// is then one contiguous copy, and its image in shared memory is the one that tensor-core loads
// read without bank conflicts (128-byte swizzle). Otherwise it is plain [page_size][head_dim].
struct SlabLayout {
  static constexpr int kTileTokens = 64;
  static constexpr int kChunkElements = 64;
  static constexpr int kGranuleElements = 8;

  int page_size;
  int head_dim;

  __host__ __device__ constexpr bool is_tiled() const {
    return page_size % kTileTokens == 0 && head_dim % kChunkElements == 0;
  }
  __host__ __device__ constexpr int slab_elements() const { return page_size * head_dim; }
  __host__ __device__ constexpr int tile_elements() const { return kTileTokens * head_dim; }

  // Element 0 of a slab in [num_pages, num_heads, page_size, head_dim].
  __host__ __device__ constexpr int64_t SlabBegin(int64_t page, int num_heads, int head) const {
    return (page * num_heads + head) * slab_elements();
  }

  // Offset of element `element` of the slab's token `token`. Neighbours stay neighbours within a
  // granule of a tiled slab and within a token of a plain one.
  __host__ __device__ constexpr int Offset(int token, int element) const {
    if (!is_tiled()) return token * head_dim + element;
    return token / kTileTokens * tile_elements() + TileOffset(token % kTileTokens, element);
  }

  // The same within one tile; token in [0, 64).
  __host__ __device__ static constexpr int TileOffset(int token, int element) {
    const int chunk = element / kChunkElements;
    const int granule = element % kChunkElements / kGranuleElements;
    const int place = granule ^ (token & 7);
    return (chunk * kTileTokens + token) * kChunkElements + place * kGranuleElements +
           element % kGranuleElements;
  }
};

}  // namespace mea::cuda
