// The matrix product inside attention: C[rows, 16 columns] += A[rows, k] B[k, 16 columns], used for
// scores, for weighted values and for the mixing of component heads.
#if defined(MEA_KERNELS_CPU_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEA_KERNELS_CPU_TILE_INL_H_
#undef MEA_KERNELS_CPU_TILE_INL_H_
#else
#define MEA_KERNELS_CPU_TILE_INL_H_
#endif

#include <hwy/cache_control.h>

#include <algorithm>
#include <type_traits>

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

// Where B lies: tile(i) is row 0 of the i-th tile, whose rows are k_stride apart. With kPrefetch
// the elements `ahead` behind each are asked for on the way, as the ones needed next.
template <bool kPrefetchAhead, typename TileFn>
struct Tiles {
  static constexpr bool kPrefetch = kPrefetchAhead;
  TileFn tile;
  int count;
  int64_t k_stride;
  int64_t ahead;
};

template <typename TileFn>
HWY_INLINE Tiles<false, TileFn> InScratch(TileFn tile, int count, int64_t k_stride) {
  return {.tile = tile, .count = count, .k_stride = k_stride, .ahead = 0};
}
template <typename TileFn>
HWY_INLINE Tiles<true, TileFn> InCache(TileFn tile, int count, int64_t k_stride, int64_t ahead) {
  return {.tile = tile, .count = count, .k_stride = k_stride, .ahead = ahead};
}

// One register block: kRows rows of A against kTiles tiles of B. Every element of C is one chain of
// multiply-adds in the order of k, whatever the block.
template <int kRows, int kTiles, bool kAccumulate, typename B>
HWY_INLINE void MultiplyBlock(const float* a, int64_t a_stride, int k, const B& tiles,
                              int first_tile, float* c, int64_t c_stride) {
  const F32 d;
  Vec sum[kRows][kTiles * kTileVecs];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kTiles * kTileVecs; ++v) {
      sum[r][v] = kAccumulate ? hn::LoadU(d, c + r * c_stride + v * kLanes) : hn::Zero(d);
    }
  }
  decltype(tiles.tile(0)) b[kTiles];
  for (int t = 0; t < kTiles; ++t) b[t] = tiles.tile(first_tile + t);
  for (int i = 0; i < k; ++i) {
    const auto column = [&](int v) HWY_ATTR {
      return LoadWide(b[v / kTileVecs] + i * tiles.k_stride + v % kTileVecs * kLanes);
    };
    if constexpr (B::kPrefetch) {
      for (int t = 0; t < kTiles; ++t) hwy::Prefetch(b[t] + i * tiles.k_stride + tiles.ahead);
    }
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
template <int kRows, bool kAccumulate, typename B>
HWY_INLINE int MultiplyRows(const float* a, int64_t a_stride, int row, int num_rows, int k,
                            const B& tiles, float* c, int64_t c_stride) {
  if constexpr (kRows <= kMaxTileRows) {
    constexpr int kTiles = TilesFor(kRows);
    for (; row + kRows <= num_rows; row += kRows) {
      const float* a_rows = a + row * a_stride;
      float* c_rows = c + row * c_stride;
      int t = 0;
      for (; t + kTiles <= tiles.count; t += kTiles) {
        MultiplyBlock<kRows, kTiles, kAccumulate>(a_rows, a_stride, k, tiles, t,
                                                  c_rows + t * kTileColumns, c_stride);
      }
      if constexpr (kTiles > 1) {
        for (; t < tiles.count; ++t) {
          MultiplyBlock<kRows, 1, kAccumulate>(a_rows, a_stride, k, tiles, t,
                                               c_rows + t * kTileColumns, c_stride);
        }
      }
    }
  }
  return row;
}

// C[num_rows, tiles.count * 16] = A[num_rows, k] B (added to C where kAccumulate).
template <bool kAccumulate, typename B>
HWY_INLINE void Multiply(const float* a, int64_t a_stride, int num_rows, int k, const B& tiles,
                         float* c, int64_t c_stride) {
  const auto rows = [&](auto count, int row) HWY_ATTR {
    return MultiplyRows<decltype(count)::value, kAccumulate>(a, a_stride, row, num_rows, k, tiles,
                                                             c, c_stride);
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
  int64_t ahead;  // what lies so far behind is needed next
};

// One row for each of kHeads heads, whose B is composed on the way and never stored:
// C[head, 16] += sum_k A[head, k] * (sum_c mix[head, c] * component c [k, 16]).
// The same chains of multiply-adds as composing first and multiplying then.
template <int kHeads, bool kAccumulate, bool kPrefetch, typename T>
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
      if constexpr (kPrefetch) hwy::Prefetch(component + b.ahead);
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
  const auto heads = [&](auto count, auto prefetch, int h) HWY_ATTR {
    MultiplyComposed<decltype(count)::value, kAccumulate, decltype(prefetch)::value>(
        a + h * a_stride, a_stride, k, b, mix + h * b.count, c + h * c_stride, c_stride);
    return h + decltype(count)::value;
  };
  constexpr std::integral_constant<int, kComposedHeads> kMany;
  constexpr std::integral_constant<int, 1> kOne;
  // The first pass over the components brings in the next ones.
  int h = num_heads >= kComposedHeads ? heads(kMany, std::true_type(), 0)
                                      : heads(kOne, std::true_type(), 0);
  while (h + kComposedHeads <= num_heads) h = heads(kMany, std::false_type(), h);
  while (h < num_heads) h = heads(kOne, std::false_type(), h);
}

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#endif
