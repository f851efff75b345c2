#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/paged_kv.h"

namespace mea::cuda {

// A (page, head) slab of keys or values in 8 or 4 bits: the integers, then the scales of all its
// tokens, then, in 4 bits, their zeros, as kernels/paged_kv.h says. Where page_size and head_dim
// are multiples of 64 the integers are
//   [page_size / 64 tiles][head_dim / 64 chunks][64 tokens][64 integers],
// and of a token's 64 or 32 bytes in a chunk the 16-byte granule g is at place g ^ (the number of
// the token's 128 bytes). Eight tokens' granules of the same integers lie in different banks of
// shared memory, and so do the rows of two or four tokens. Otherwise a token follows the other.
// In 4 bits two neighbours share a byte, the first in its low half.
struct IntegerSlab {
  static constexpr int kTileTokens = 64;
  static constexpr int kChunkElements = 64;
  static constexpr int kGranuleBytes = 16;

  int page_size;
  int head_dim;
  DType dtype;  // kI8 or kI4

  // Bytes of so many integers.
  __host__ __device__ static constexpr int Bytes(DType dtype, int elements) {
    return dtype == DType::kI4 ? elements / 2 : elements;
  }
  // Bytes of a token in a chunk.
  __host__ __device__ static constexpr int RowBytes(DType dtype) {
    return Bytes(dtype, kChunkElements);
  }
  __host__ __device__ static constexpr int ChunkBytes(DType dtype) {
    return kTileTokens * RowBytes(dtype);
  }
  // What a token exchanges the granules of its row by.
  __host__ __device__ static constexpr int Swizzle(DType dtype, int token) {
    return token * RowBytes(dtype) / 128 % (RowBytes(dtype) / kGranuleBytes);
  }

  __host__ __device__ constexpr bool is_tiled() const {
    return page_size % kTileTokens == 0 && head_dim % kChunkElements == 0;
  }
  __host__ __device__ constexpr int token_bytes() const {
    return dtype == DType::kI4 ? (head_dim + 31) / 32 * 16 : head_dim;
  }
  __host__ __device__ constexpr int bytes() const {
    return page_size * (token_bytes() + (dtype == DType::kI4 ? 4 : 2));
  }

  // Byte 0 of a slab in [num_pages, num_heads] slabs.
  __host__ __device__ constexpr int64_t Begin(int64_t page, int num_heads, int head) const {
    return (page * num_heads + head) * bytes();
  }
  // Offsets in a slab, in bytes. Of element `element`, even, of token `token`:
  __host__ __device__ constexpr int Offset(int token, int element) const {
    if (!is_tiled()) return token * token_bytes() + Bytes(dtype, element);
    return token / kTileTokens * (kTileTokens * token_bytes()) +
           TileOffset(dtype, token % kTileTokens, element);
  }
  __host__ __device__ constexpr int Scale(int token) const {
    return page_size * token_bytes() + 2 * token;
  }
  __host__ __device__ constexpr int Zero(int token) const { return Scale(page_size + token); }

  // Within one tile; token in [0, 64).
  __host__ __device__ static constexpr int TileOffset(DType dtype, int token, int element) {
    const int byte = Bytes(dtype, element % kChunkElements);
    const int place = byte / kGranuleBytes ^ Swizzle(dtype, token);
    return element / kChunkElements * ChunkBytes(dtype) + token * RowBytes(dtype) +
           place * kGranuleBytes + byte % kGranuleBytes;
  }
};

}  // namespace mea::cuda
