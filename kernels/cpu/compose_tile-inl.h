// Products with heads that are mixes of components: composed on the way in registers, or whole
// tiles composed into memory.
#if defined(MEA_KERNELS_CPU_COMPOSE_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEA_KERNELS_CPU_COMPOSE_TILE_INL_H_
#undef MEA_KERNELS_CPU_COMPOSE_TILE_INL_H_
#else
#define MEA_KERNELS_CPU_COMPOSE_TILE_INL_H_
#endif

#include <type_traits>

#include "kernels/cpu/attention_work.h"
#include "kernels/cpu/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {

// Components that are mixed in registers together, over two rows of k: their vectors, two composed
// ones and a weight fit into 16.
constexpr int kMixedTogether = 6;
constexpr int kMixedRows = 2;

// Component vectors in the cache, each laid out as B above.
template <typename Rows>
struct Components {
  Rows first;
  int64_t component_stride;  // of elements
  int64_t scale_stride;      // of scales, where there are any
  int64_t stride;
  int count;
  int64_t ahead;  // data this far ahead is needed next

  Rows Next(const Rows& rows) const { return Behind(rows, component_stride, scale_stride); }
};

// The weights of some heads: component c of head h has data[h * stride + c].
struct MixWeights {
  const float* data;
  int64_t stride;
};

// Loops over registers are marked to be unrolled: otherwise GCC 12 unrolls them too late and keeps
// their vectors in memory.

// A step of MultiplyComposed: kRows rows of k from `row` on, in one vector of columns. Composes,
// for each head, kCount components from `first` on, added to those in `partial` if there were some
// (kBegins is false). Leaves [head][kRows] vectors there if more follow (kEnds is false); else adds
// them, times the heads' a, to their sums, a vector each.
template <int kCount, int kRows, bool kBegins, bool kEnds, typename Rows>
HWY_INLINE void AddComposed(const Components<Rows>& b, const Rows& first, int64_t offset, int row,
                            int column, MixWeights mix, int num_heads, const float* const* a,
                            float* partial, float* sums) {
  constexpr bool kPaired = kRowsTogether<ElementOf<Rows>> == 2;
  const F32 d;
  Vec components[kCount][kRows];
  Rows at = first;
#pragma GCC unroll 8
  for (int n = 0; n < kCount; ++n, at = b.Next(at)) {
    components[n][0] = LoadColumns<0>(at, offset, row, column);
    if constexpr (kRows == 2) {
      components[n][1] =
          LoadColumns<kPaired>(at, offset + (kPaired ? 0 : b.stride), row + 1, column);
    }
  }
  const float* weights = mix.data;
  for (int h = 0; h < num_heads; ++h, weights += mix.stride) {
    Vec composed[kRows];
#pragma GCC unroll 8
    for (int n = 0; n < kCount; ++n) {
      const Vec weight = hn::Set(d, weights[n]);
#pragma GCC unroll 2
      for (int r = 0; r < kRows; ++r) {
        if (n > 0) {
          composed[r] = hn::MulAdd(weight, components[n][r], composed[r]);
        } else if constexpr (kBegins) {
          composed[r] = hn::Mul(weight, components[n][r]);
        } else {
          const Vec before = hn::Load(d, partial + (h * kRows + r) * kLanes);
          composed[r] = hn::MulAdd(weight, components[n][r], before);
        }
      }
    }
    if constexpr (kEnds) {
      Vec sum = hn::Load(d, sums + h * kLanes);
#pragma GCC unroll 2
      for (int r = 0; r < kRows; ++r) {
        sum = hn::MulAdd(hn::Set(d, a[h][row + r]), composed[r], sum);
      }
      hn::Store(sum, d, sums + h * kLanes);
    } else {
#pragma GCC unroll 2
      for (int r = 0; r < kRows; ++r) {
        hn::Store(composed[r], d, partial + (h * kRows + r) * kLanes);
      }
    }
  }
}

// One step of all components: of kCount, or, if that is 0, of more than kMixedTogether.
template <int kCount, int kRows, typename Rows>
HWY_INLINE void AddAllComposed(const Components<Rows>& b, int64_t offset, int row, int column,
                               MixWeights mix, int num_heads, const float* const* a, float* partial,
                               float* sums) {
  if constexpr (kCount > 0) {
    AddComposed<kCount, kRows, true, true>(b, b.first, offset, row, column, mix, num_heads, a,
                                           partial, sums);
  } else {
    Rows first = b.first;
    AddComposed<kMixedTogether, kRows, true, false>(b, first, offset, row, column, mix, num_heads,
                                                    a, partial, sums);
    const auto go_on = [&]() HWY_ATTR {
      first = Behind(first, kMixedTogether * b.component_stride, kMixedTogether * b.scale_stride);
      mix.data += kMixedTogether;
    };
    int left = b.count - kMixedTogether;
    for (go_on(); left > kMixedTogether; left -= kMixedTogether, go_on()) {
      AddComposed<kMixedTogether, kRows, false, false>(b, first, offset, row, column, mix,
                                                       num_heads, a, partial, sums);
    }
    WithCount<kMixedTogether>(left, [&](auto count) HWY_ATTR {
      AddComposed<decltype(count)::value, kRows, false, true>(b, first, offset, row, column, mix,
                                                              num_heads, a, partial, sums);
    });
  }
}

// MultiplyComposed of kCount components, or, if that is 0, of more than kMixedTogether. The first
// of the tile's vectors prefetches what is needed next, of one component after the other, so memory
// is read in distant streams.
template <int kCount, typename Rows>
void MultiplyComposedOf(bool accumulate, int num_heads, const float* const* a, int k,
                        const Components<Rows>& b, MixWeights mix, float* const* c) {
  using T = ElementOf<Rows>;
  const F32 d;
  HWY_ALIGN float sums[cpu::kMaxTogether * kLanes];
  HWY_ALIGN float partial[cpu::kMaxTogether * kMixedRows * kLanes];
  constexpr int kSteps = kMixedRows / kRowsTogether<T>;  // strides that two rows take
  for (int column = 0; column < kTileColumns; column += kLanes) {
    for (int h = 0; h < num_heads; ++h) {
      const Vec before = accumulate ? hn::LoadU(d, c[h] + column) : hn::Zero(d);
      hn::Store(before, d, sums + h * kLanes);
    }
    const auto rows = [&](auto count, int row, int64_t offset) HWY_ATTR {
      for (int step = 0; step < kSteps && column == 0; ++step) {
        const T* next = DataOf(b.first) + offset + step * b.stride + b.ahead;
        for (int n = 0; n < b.count; ++n, next += b.component_stride) hwy::Prefetch(next);
      }
      AddAllComposed<kCount, decltype(count)::value>(b, offset, row, column, mix, num_heads, a,
                                                     partial, sums);
    };
    int row = 0;
    int64_t offset = 0;
    for (; row + kMixedRows <= k; row += kMixedRows, offset += kSteps * b.stride) {
      rows(std::integral_constant<int, kMixedRows>(), row, offset);
    }
    // The partner of an odd last row may be a token that does not exist: it is not used.
    if (row < k) rows(std::integral_constant<int, 1>(), row, offset);
    for (int h = 0; h < num_heads; ++h) {
      hn::StoreU(hn::Load(d, sums + h * kLanes), d, c[h] + column);
    }
  }
}

// One row for each head, whose B is composed on the way and never stored: c[head][16 columns] =
// sum_k a[head][k] * (sum_n mix[n, head] * component n [k, 16 columns]), added to C if
// `accumulate`. The same chains of multiply-adds as composing first and multiplying then.
template <typename Rows>
void MultiplyComposed(bool accumulate, int num_heads, const float* const* a, int k,
                      const Components<Rows>& b, MixWeights mix, float* const* c) {
  if (b.count > kMixedTogether) {
    return MultiplyComposedOf<0>(accumulate, num_heads, a, k, b, mix, c);
  }
  WithCount<kMixedTogether>(b.count, [&](auto count) HWY_ATTR {
    MultiplyComposedOf<decltype(count)::value>(accumulate, num_heads, a, k, b, mix, c);
  });
}

// Composes whole tiles into scratch memory, as floats row after row: target[head][row][column] =
// sum_n mix[n, head] * component n [row, column], `columns` to a row. If their number is no
// multiple of a vector, the last vector of a row writes into the next row, which is written
// afterwards, and beyond the tile.
template <int kHeads, typename Rows>
HWY_INLINE void ComposeTile(const Components<Rows>& b, int rows, int columns, MixWeights mix,
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
          const Vec weight = hn::Set(d, weights[h * mix.stride]);
          sum[h][0] = hn::MulAdd(weight, first, sum[h][0]);
          if constexpr (kHalves == 2) sum[h][1] = hn::MulAdd(weight, second, sum[h][1]);
        }
        component = b.Next(component);
        ++weights;
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
                            MixWeights mix, float* target, int64_t target_stride) {
  const auto heads = [&](auto count, int h) HWY_ATTR {
    constexpr int kHeads = decltype(count)::value;
    for (; h + kHeads <= num_heads; h += kHeads) {
      const MixWeights weights = {.data = mix.data + h * mix.stride, .stride = mix.stride};
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

// Copies a tile of one component in the same way.
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
