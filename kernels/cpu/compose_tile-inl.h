// Products with heads that are mixed of components: composed on the way in registers, or whole
// tiles composed into memory.
#if defined(MEA_KERNELS_CPU_COMPOSE_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEA_KERNELS_CPU_COMPOSE_TILE_INL_H_
#undef MEA_KERNELS_CPU_COMPOSE_TILE_INL_H_
#else
#define MEA_KERNELS_CPU_COMPOSE_TILE_INL_H_
#endif

#include <algorithm>
#include <utility>

#include "kernels/cpu/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {

// Register block of MultiplyComposed: columns of one tile and heads, with an accumulator for each
// and a composed vector for each row of k at hand. Vectors of one float go alone: GCC 12 takes two
// of them for one load and then reads that behind the last component, too.
template <typename T>
inline constexpr int kComposedVecs = kTileVecs == 1 || kLanes == 1 || kRowsTogether<T> == 2 ? 1 : 2;
template <typename T>
inline constexpr int kComposedHeads = kLanes == 16 ? 8 : (kComposedVecs<T> == 2 ? 3 : 4);

// Component vectors in the cache, each laid out as B above.
template <typename ComponentRows>
struct Components {
  using Rows = ComponentRows;
  Rows first;
  int64_t component_stride;  // of elements
  int64_t scale_stride;      // of scales, where there are any
  int64_t stride;
  int count;
  int64_t ahead;  // what lies so far behind is needed next

  Rows Next(const Rows& rows) const { return Behind(rows, component_stride, scale_stride); }
};

// Loops over heads are marked to be unrolled: GCC 12 else unrolls them too late to keep their
// accumulators in registers (and stores each after every multiply-add, which halves the rate).

// The weights of some heads, those of a component side by side: head h takes data[c * stride + h]
// of component c.
struct MixColumns {
  const float* data;
  int64_t stride;
};

// One row for each of kHeads heads, whose B is composed on the way and never stored:
// c[head][16] += sum_k a[head][k] * (sum_n mix[n, head] * component n [k, 16]).
// The same chains of multiply-adds as composing first and multiplying then. This is pass `pass` of
// `num_passes` over the components: each of the first asks for its share of what is needed next, of
// all components, so that memory is read evenly and in distant streams.
template <int kHeads, bool kAccumulate, typename Rows>
HWY_INLINE void MultiplyComposed(const float* const* a, int k, const Components<Rows>& b,
                                 MixColumns mix, int pass, int num_passes, float* const* c) {
  using T = ElementOf<Rows>;
  constexpr int kVecs = kComposedVecs<T>;
  constexpr int kHalves = kRowsTogether<T>;
  constexpr int kParts = kTileVecs / kVecs;
  const F32 d;
  for (int part = 0; part < kParts; ++part) {
    const int column = part * kVecs * kLanes;
    // Until a row's neighbours `ahead` are asked for: in the first half of all parts, to be early.
    const int turn = pass * kParts + part;
    const int turns = std::max(1, num_passes * kParts / 2);
    int rows_to_ask = turn < turns ? turn : k;
    Vec sum[kHeads][kVecs];
#pragma GCC unroll 8
    for (int h = 0; h < kHeads; ++h) {
      for (int v = 0; v < kVecs; ++v) {
        sum[h][v] = kAccumulate ? hn::LoadU(d, c[h] + column + v * kLanes) : hn::Zero(d);
      }
    }
    int64_t offset = 0;
    for (int i = 0; i < k; i += kHalves, offset += b.stride) {
      if (rows_to_ask-- == 0) {
        const T* next = DataOf(b.first) + offset + b.ahead;
        for (int n = 0; n < b.count; ++n, next += b.component_stride) hwy::Prefetch(next);
        rows_to_ask = turns - 1;
      }
      // Of a row, or of both of a pair: [half * kVecs + v].
      Vec composed[kHeads][kVecs * kHalves];
#pragma GCC unroll 8
      for (int h = 0; h < kHeads; ++h) {
        for (int v = 0; v < kVecs * kHalves; ++v) composed[h][v] = hn::Zero(d);
      }
      Rows component = b.first;
      const float* weights = mix.data;
      for (int n = 0; n < b.count; ++n) {
        Vec columns[kVecs * kHalves];
        for (int v = 0; v < kVecs; ++v) {
          const int at = column + v * kLanes;
          columns[v] = LoadColumns<0>(component, offset, i, at);
          if constexpr (kHalves == 2) columns[kVecs + v] = LoadColumns<1>(component, offset, i, at);
        }
#pragma GCC unroll 8
        for (int h = 0; h < kHeads; ++h) {
          const Vec weight = hn::Set(d, weights[h]);
          for (int v = 0; v < kVecs * kHalves; ++v) {
            composed[h][v] = hn::MulAdd(weight, columns[v], composed[h][v]);
          }
        }
        component = b.Next(component);
        weights += mix.stride;
      }
      const auto add = [&](auto half) HWY_ATTR {
#pragma GCC unroll 8
        for (int h = 0; h < kHeads; ++h) {
          const Vec value = hn::Set(d, a[h][i + half]);
          for (int v = 0; v < kVecs; ++v) {
            sum[h][v] = hn::MulAdd(value, composed[h][half * kVecs + v], sum[h][v]);
          }
        }
      };
      add(std::integral_constant<int, 0>());
      // The partner of an odd last row may be a token that does not exist: it is not used.
      if constexpr (kHalves == 2) {
        if (i + 1 < k) add(std::integral_constant<int, 1>());
      }
    }
#pragma GCC unroll 8
    for (int h = 0; h < kHeads; ++h) {
      for (int v = 0; v < kVecs; ++v) {
        hn::StoreU(sum[h][v], d, c[h] + column + v * kLanes);
      }
    }
  }
}

// The same for any number of heads, in passes as equal as may be.
template <bool kAccumulate, typename Rows>
HWY_INLINE void MultiplyComposed(int num_heads, const float* const* a, int k,
                                 const Components<Rows>& b, MixColumns mix, float* const* c) {
  constexpr int kMany = kComposedHeads<ElementOf<Rows>>;
  const int num_passes = (num_heads + kMany - 1) / kMany;
  int h = 0;
  for (int pass = 0; pass < num_passes; ++pass) {
    const int count = (num_heads - h + num_passes - pass - 1) / (num_passes - pass);
    const auto heads = [&](auto size) HWY_ATTR {
      constexpr int kHeads = decltype(size)::value;
      if constexpr (kHeads <= kMany) {
        const MixColumns columns = {.data = mix.data + h, .stride = mix.stride};
        MultiplyComposed<kHeads, kAccumulate>(a + h, k, b, columns, pass, num_passes, c + h);
        h += kHeads;
      }
    };
    switch (count) {
      case 1:
        heads(std::integral_constant<int, 1>());
        break;
      case 2:
        heads(std::integral_constant<int, 2>());
        break;
      case 3:
        heads(std::integral_constant<int, 3>());
        break;
      case 4:
        heads(std::integral_constant<int, 4>());
        break;
      case 5:
        heads(std::integral_constant<int, 5>());
        break;
      case 6:
        heads(std::integral_constant<int, 6>());
        break;
      case 7:
        heads(std::integral_constant<int, 7>());
        break;
      default:
        heads(std::integral_constant<int, 8>());
        break;
    }
  }
}

// Composes whole tiles into scratch memory, as floats row after row:
// target[head][row][column] = sum_n mix[n, head] * component n [row, column], `columns` to a row.
// Where no vector divides these, the last of a row writes into the next row, which then is written,
// and behind the tile.
template <int kHeads, typename Rows>
HWY_INLINE void ComposeTile(const Components<Rows>& b, int rows, int columns, MixColumns mix,
                            float* target, int64_t target_stride) {
  constexpr int kHalves = kRowsTogether<ElementOf<Rows>>;
  const F32 d;
  for (int row = 0; row < rows; row += kHalves) {
    for (int column = 0; column < columns; column += kLanes) {
      Vec sum[kHeads][kHalves];
#pragma GCC unroll 8
      for (int h = 0; h < kHeads; ++h) {
        for (int half = 0; half < kHalves; ++half) sum[h][half] = hn::Zero(d);
      }
      const int64_t at = row / kHalves * b.stride;
      Rows component = b.first;
      const float* weights = mix.data;
      for (int n = 0; n < b.count; ++n) {
        const Vec first = LoadColumns<0>(component, at, row, column);
        const Vec second =
            kHalves == 2 ? LoadColumns<kHalves - 1>(component, at, row, column) : first;
#pragma GCC unroll 8
        for (int h = 0; h < kHeads; ++h) {
          const Vec weight = hn::Set(d, weights[h]);
          sum[h][0] = hn::MulAdd(weight, first, sum[h][0]);
          if constexpr (kHalves == 2) sum[h][1] = hn::MulAdd(weight, second, sum[h][1]);
        }
        component = b.Next(component);
        weights += mix.stride;
      }
      float* out = target + int64_t{row} * columns + column;
#pragma GCC unroll 8
      for (int h = 0; h < kHeads; ++h) {
        for (int half = 0; half < kHalves; ++half) {
          hn::StoreU(sum[h][half], d, out + h * target_stride + half * columns);
        }
      }
    }
  }
}

template <typename Rows>
HWY_INLINE void ComposeTile(const Components<Rows>& b, int num_heads, int rows, int columns,
                            MixColumns mix, float* target, int64_t target_stride) {
  const auto heads = [&](auto count, int h) HWY_ATTR {
    constexpr int kHeads = decltype(count)::value;
    for (; h + kHeads <= num_heads; h += kHeads) {
      const MixColumns weights = {.data = mix.data + h, .stride = mix.stride};
      ComposeTile<kHeads>(b, rows, columns, weights, target + h * target_stride, target_stride);
    }
    return h;
  };
  // As many accumulators as registers hold.
  constexpr int kMany = kLanes == 16 || kRowsTogether<ElementOf<Rows>> == 1 ? 8 : 4;
  int h = heads(std::integral_constant<int, kMany>(), 0);
  h = heads(std::integral_constant<int, 2>(), h);
  heads(std::integral_constant<int, 1>(), h);
}

// Copies a tile of one component so.
template <typename Rows>
HWY_INLINE void WidenTile(const Components<Rows>& b, int rows, int columns, float* target) {
  constexpr int kHalves = kRowsTogether<ElementOf<Rows>>;
  for (int row = 0; row < rows; row += kHalves) {
    for (int column = 0; column < columns; column += kLanes) {
      const int64_t at = row / kHalves * b.stride;
      float* out = target + int64_t{row} * columns + column;
      hn::StoreU(LoadColumns<0>(b.first, at, row, column), F32(), out);
      if constexpr (kHalves == 2) {
        hn::StoreU(LoadColumns<1>(b.first, at, row + 1, column), F32(), out + columns);
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#endif
