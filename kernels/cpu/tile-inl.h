// The matrix product inside attention: C[rows, 16 columns] += A[rows, k] B[k, 16 columns], used for
// scores, for weighted values and for the mixing of component heads.
#if defined(MEA_KERNELS_CPU_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEA_KERNELS_CPU_TILE_INL_H_
#undef MEA_KERNELS_CPU_TILE_INL_H_
#else
#define MEA_KERNELS_CPU_TILE_INL_H_
#endif

#include <algorithm>

#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {

constexpr int kTileColumns = 16;
constexpr int kTileVecs = kTileColumns / kLanes;
// Accumulators that leave registers for the operands.
constexpr int kMaxAccumulators = kLanes == 16 ? 24 : 12;
constexpr int kMaxTileRows = std::max(1, kMaxAccumulators / (kLanes == 16 ? 2 : kTileVecs));

// How many tiles side by side give `rows` rows enough independent accumulators.
constexpr int TilesFor(int rows) {
  const int fit = kMaxAccumulators / (rows * kTileVecs);
  return fit >= 4 ? 4 : fit >= 2 ? 2 : 1;
}

// One register block: kRows rows of A against kTiles tiles of B. Every element of C is one chain of
// multiply-adds in the order of k, whatever the block. tile(i) is row 0 of the i-th tile.
template <int kRows, int kTiles, bool kAccumulate, typename Tile>
HWY_INLINE void MultiplyBlock(const float* a, int64_t a_stride, int k, Tile tile, int first_tile,
                              int64_t b_stride, float* c, int64_t c_stride) {
  const F32 d;
  Vec sum[kRows][kTiles * kTileVecs];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kTiles * kTileVecs; ++v) {
      sum[r][v] = kAccumulate ? hn::LoadU(d, c + r * c_stride + v * kLanes) : hn::Zero(d);
    }
  }
  decltype(tile(0)) b[kTiles];
  for (int t = 0; t < kTiles; ++t) b[t] = tile(first_tile + t);
  for (int i = 0; i < k; ++i) {
    const auto column = [&](int v) HWY_ATTR {
      return LoadWide(b[v / kTileVecs] + i * b_stride + v % kTileVecs * kLanes);
    };
    if constexpr (kRows <= 2) {  // the values are few: hold them, and one column at a time
      Vec values[kRows];
      for (int r = 0; r < kRows; ++r) values[r] = hn::Set(d, a[r * a_stride + i]);
      for (int v = 0; v < kTiles * kTileVecs; ++v) {
        const Vec one = column(v);
        for (int r = 0; r < kRows; ++r) sum[r][v] = hn::MulAdd(values[r], one, sum[r][v]);
      }
    } else {
      Vec columns[kTiles * kTileVecs];
      for (int v = 0; v < kTiles * kTileVecs; ++v) columns[v] = column(v);
      for (int r = 0; r < kRows; ++r) {
        const Vec value = hn::Set(d, a[r * a_stride + i]);
        for (int v = 0; v < kTiles * kTileVecs; ++v) {
          sum[r][v] = hn::MulAdd(value, columns[v], sum[r][v]);
        }
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kTiles * kTileVecs; ++v) {
      hn::StoreU(sum[r][v], d, c + r * c_stride + v * kLanes);
    }
  }
}

// All register blocks of `kRows` rows that fit; returns the first row left over.
template <int kRows, bool kAccumulate, typename Tile>
HWY_INLINE int MultiplyRows(const float* a, int64_t a_stride, int row, int num_rows, int k,
                            Tile tile, int num_tiles, int64_t b_stride, float* c,
                            int64_t c_stride) {
  if constexpr (kRows <= kMaxTileRows) {
    constexpr int kTiles = TilesFor(kRows);
    for (; row + kRows <= num_rows; row += kRows) {
      const float* a_rows = a + row * a_stride;
      float* c_rows = c + row * c_stride;
      int t = 0;
      for (; t + kTiles <= num_tiles; t += kTiles) {
        MultiplyBlock<kRows, kTiles, kAccumulate>(a_rows, a_stride, k, tile, t, b_stride,
                                                  c_rows + t * kTileColumns, c_stride);
      }
      if constexpr (kTiles > 1) {
        for (; t < num_tiles; ++t) {
          MultiplyBlock<kRows, 1, kAccumulate>(a_rows, a_stride, k, tile, t, b_stride,
                                               c_rows + t * kTileColumns, c_stride);
        }
      }
    }
  }
  return row;
}

// C[num_rows, num_tiles * 16] = A[num_rows, k] B (added to C where kAccumulate).
template <bool kAccumulate, typename Tile>
HWY_INLINE void Multiply(const float* a, int64_t a_stride, int num_rows, int k, Tile tile,
                         int num_tiles, int64_t b_stride, float* c, int64_t c_stride) {
  const auto rows = [&](auto count, int row) HWY_ATTR {
    return MultiplyRows<decltype(count)::value, kAccumulate>(a, a_stride, row, num_rows, k, tile,
                                                             num_tiles, b_stride, c, c_stride);
  };
  int row = rows(std::integral_constant<int, 12>(), 0);
  row = rows(std::integral_constant<int, 6>(), row);
  row = rows(std::integral_constant<int, 4>(), row);
  row = rows(std::integral_constant<int, 2>(), row);
  rows(std::integral_constant<int, 1>(), row);
}

// Heads that MultiplyComposed takes at once: an accumulator and a composed vector for each.
constexpr int kComposedHeads = kLanes == 16 ? 8 : kLanes == 8 ? 3 : 1;

// Component vectors in the cache: element [component][k][column].
template <typename T>
struct Components {
  const T* data;
  int64_t component_stride;
  int64_t k_stride;
  int count;
};

// One row for each of kHeads heads, whose B is composed on the way and never stored:
// C[head, 16] += sum_k A[head, k] * (sum_c mix[head, c] * component c [k, 16]).
// The same chains of multiply-adds as composing first and multiplying then.
template <int kHeads, bool kAccumulate, typename T>
HWY_INLINE void MultiplyComposed(const float* a, int64_t a_stride, int k, const Components<T>& b,
                                 const float* mix, float* c, int64_t c_stride) {
  const F32 d;
  Vec sum[kHeads][kTileVecs];
  for (int h = 0; h < kHeads; ++h) {
    for (int v = 0; v < kTileVecs; ++v) {
      sum[h][v] = kAccumulate ? hn::LoadU(d, c + h * c_stride + v * kLanes) : hn::Zero(d);
    }
  }
  for (int i = 0; i < k; ++i) {
    Vec composed[kHeads][kTileVecs];
    for (int h = 0; h < kHeads; ++h) {
      for (int v = 0; v < kTileVecs; ++v) composed[h][v] = hn::Zero(d);
    }
    const T* component = b.data + i * b.k_stride;
    for (int n = 0; n < b.count; ++n, component += b.component_stride) {
      Vec columns[kTileVecs];
      for (int v = 0; v < kTileVecs; ++v) columns[v] = LoadWide(component + v * kLanes);
      for (int h = 0; h < kHeads; ++h) {
        const Vec weight = hn::Set(d, mix[h * b.count + n]);
        for (int v = 0; v < kTileVecs; ++v) {
          composed[h][v] = hn::MulAdd(weight, columns[v], composed[h][v]);
        }
      }
    }
    for (int h = 0; h < kHeads; ++h) {
      const Vec value = hn::Set(d, a[h * a_stride + i]);
      for (int v = 0; v < kTileVecs; ++v) {
        sum[h][v] = hn::MulAdd(value, composed[h][v], sum[h][v]);
      }
    }
  }
  for (int h = 0; h < kHeads; ++h) {
    for (int v = 0; v < kTileVecs; ++v) {
      hn::StoreU(sum[h][v], d, c + h * c_stride + v * kLanes);
    }
  }
}

// The same for any number of heads.
template <bool kAccumulate, typename T>
HWY_INLINE void MultiplyComposed(const float* a, int64_t a_stride, int num_heads, int k,
                                 const Components<T>& b, const float* mix, float* c,
                                 int64_t c_stride) {
  int h = 0;
  for (; h + kComposedHeads <= num_heads; h += kComposedHeads) {
    MultiplyComposed<kComposedHeads, kAccumulate>(a + h * a_stride, a_stride, k, b,
                                                  mix + h * b.count, c + h * c_stride, c_stride);
  }
  for (; h < num_heads; ++h) {
    MultiplyComposed<1, kAccumulate>(a + h * a_stride, a_stride, k, b, mix + h * b.count,
                                     c + h * c_stride, c_stride);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#endif
