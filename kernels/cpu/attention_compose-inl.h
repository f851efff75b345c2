// The cache as attention reads it: the slabs of a block in place, and virtual heads composed from
// them into scratch memory.
#if defined(MEA_KERNELS_CPU_ATTENTION_COMPOSE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEA_KERNELS_CPU_ATTENTION_COMPOSE_INL_H_
#undef MEA_KERNELS_CPU_ATTENTION_COMPOSE_INL_H_
#else
#define MEA_KERNELS_CPU_ATTENTION_COMPOSE_INL_H_
#endif

#include <hwy/cache_control.h>

#include <type_traits>

#include "kernels/cpu/attention_work.h"
#include "kernels/cpu/bf16_compose-inl.h"
#include "kernels/cpu/compose_tile-inl.h"
#include "kernels/int8_rows.h"

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {

using cpu::AttentionWork;
using cpu::HeadsBySource;
using cpu::kBlockTokens;
using cpu::kTileTokens;
using cpu::TokenRange;

constexpr int TileFloor(int token) { return token / kTileTokens * kTileTokens; }

// How slabs of stored elements are pointed at (tile-inl.h).
template <typename Stored>
using KeyRows = std::conditional_t<std::is_same_v<Stored, int8_t>, ColumnScaled, const Stored*>;
template <typename Stored>
using ValueRows = std::conditional_t<std::is_same_v<Stored, int8_t>, RowScaled, const Stored*>;

// What heads are composed in: floats, unless products take BF16.
template <typename T>
using ComposedElement = std::conditional_t<std::is_same_v<T, DotBf16>, DotBf16, float>;

// Whether rows of one virtual head multiply a slab in place: always if it needs no widening, else
// if they are so few that widening in registers happens once.
template <typename T>
constexpr bool ReadsInPlace(int group_rows) {
  return std::is_same_v<T, ComposedElement<T>> || group_rows <= kMaxTileRows;
}

// body(head) in the order in which CacheReader composes.
template <typename Body>
HWY_INLINE void ForComposed(const HeadsBySource& heads, Body body) {
  for (int i = 0; i < heads.num_mixed; ++i) body(heads.mixed[i]);
  for (int i = 0; i < heads.num_plain; ++i) body(heads.plain[i]);
}

template <typename T>
class CacheReader {
 public:
  using Composed = ComposedElement<T>;

  explicit CacheReader(const AttentionWork& work) : work_(work), head_dim_(work.head_dim) {}

  // Makes a block readable: widens the scales of its visible part, if any, and prefetches those of
  // the next.
  void OpenKeys(int64_t block_begin, TokenRange seen) const {
    Open(work_.args.kv.keys, block_begin, seen, work_.first_key(), work_.num_keys(),
         work_.key_scales);
  }
  void OpenValues(int64_t block_begin, TokenRange seen) const {
    Open(work_.args.kv.values, block_begin, seen, work_.first_value(), work_.num_values(),
         work_.value_scales);
  }

  // Component `head` of the 16 tokens from `position` on.
  HWY_INLINE KeyRows<T> KeyTile(int64_t position, int head) const {
    const T* slab = Slab(work_.args.kv.keys, position, head);
    if constexpr (kScaled) {
      return {.data = slab, .scales = Opened(work_.key_scales, position, head - work_.first_key())};
    } else {
      return slab;
    }
  }
  HWY_INLINE ValueRows<T> ValueTile(int64_t position, int head) const {
    const T* slab = Slab(work_.args.kv.values, position, head);
    if constexpr (kScaled) {
      return {.data = slab,
              .scales = Opened(work_.value_scales, position, head - work_.first_value())};
    } else {
      return slab;
    }
  }
  // All components of the keys, or values, of the 16 tokens from `position` on.
  HWY_INLINE Components<KeyRows<T>> Keys(int64_t position, int component = 0) const {
    return {.first = KeyTile(position, component),
            .component_stride = key_component_stride(),
            .scale_stride = kBlockTokens,
            .stride = kTileTokens * kRowsTogether<T>,
            .count = work_.args.kv.spec.key_heads,
            .ahead = NextTile(work_.args.kv.keys, position)};
  }
  HWY_INLINE Components<ValueRows<T>> Values(int64_t position, int component = 0) const {
    return {.first = ValueTile(position, component),
            .component_stride = work_.args.kv.values.stride[1],
            .scale_stride = kBlockTokens,
            .stride = int64_t{head_dim_} * kRowsTogether<T>,
            .count = work_.args.kv.spec.value_heads,
            .ahead = NextTile(work_.args.kv.values, position)};
  }

  // The weights of the mixed heads.
  MixWeights KeyMix(const HeadsBySource& heads) const {
    const int stride = work_.args.kv.spec.key_heads;
    return {.data = work_.key_mix + heads.first_mix * stride, .stride = stride};
  }
  MixWeights ValueMix(const HeadsBySource& heads) const {
    const int stride = work_.args.kv.spec.value_heads;
    return {.data = work_.value_mix + heads.first_mix * stride, .stride = stride};
  }

  int64_t key_component_stride() const { return work_.args.kv.keys.stride[1]; }

  // Where composed heads begin, and elements between the keys, or values, of two.
  Composed* composed() const { return reinterpret_cast<Composed*>(work_.composed); }
  int64_t key_stride() const { return int64_t{kBlockTokens} * head_dim_; }
  int64_t value_stride() const { return int64_t{kBlockTokens} * head_dim_ + kTileColumns; }

  // Composes the mixed heads of the block's visible tiles into work.composed, one after the other,
  // and widens the plain ones after them: for each, keys as [tile][head_dim][16 tokens], values as
  // [token][head_dim]; in BF16 as slabs are, and none is plain.
  void ComposeKeys(int64_t block_begin, TokenRange seen, const HeadsBySource& heads) const {
    const auto find = [this](int64_t position, int component)
                          HWY_ATTR { return Keys(position, component); };
    const Composition to = {
        .mix = KeyMix(heads), .rows = head_dim_, .columns = kTileTokens, .stride = key_stride()};
    Compose(to, heads, block_begin, seen, find);
  }
  void ComposeValues(int64_t block_begin, TokenRange seen, const HeadsBySource& heads) const {
    const auto find = [this](int64_t position, int component)
                          HWY_ATTR { return Values(position, component); };
    Composition to = {.mix = ValueMix(heads),
                      .rows = kTileTokens,
                      .columns = head_dim_,
                      .stride = value_stride()};
    if constexpr (!kScaled) {
      if (head_dim_ % kTileColumns != 0) {
        // Unpaired rows whose length is no multiple of a vector: the 16 tokens are one long row,
        // and nothing beyond it is read. The scales follow the integers.
        to.rows = 1;
        to.columns = kTileTokens * head_dim_;
        const auto flat = [this](int64_t position, int component)
                              HWY_ATTR { return FlatValues(position, component); };
        return Compose(to, heads, block_begin, seen, flat);
      }
    }
    Compose(to, heads, block_begin, seen, find);
  }

 private:
  // Heads in tiles of `rows` rows of `columns`, `stride` elements for each head.
  struct Composition {
    MixWeights mix;
    int rows, columns;
    int64_t stride;
  };

  HWY_INLINE const T* Slab(const TensorView& slabs, int64_t position, int head) const {
    const int page_size = work_.args.kv.page_size;
    const int64_t page = work_.pages[position / page_size];
    return reinterpret_cast<const T*>(slabs.as<Stored>()) + page * slabs.stride[0] +
           head * slabs.stride[1] + position % page_size * head_dim_;
  }

  // The scales of slabs [first, first + count) of the block, into `opened`.
  HWY_INLINE void Open(const TensorView& slabs, int64_t block_begin, TokenRange seen, int first,
                       int count, float* opened) const {
    if constexpr (kScaled) {
      for (int t = TileFloor(seen.begin); t < seen.end; t += kTileTokens) {
        for (int n = 0; n < count; ++n) {
          OpenScales(slabs, block_begin + t, first + n, Opened(opened, block_begin + t, n));
        }
      }
    }
  }
  // The scales of slab n of the block.
  HWY_INLINE float* Opened(float* opened, int64_t position, int n) const {
    return opened + int64_t{n} * kBlockTokens + position % kBlockTokens;
  }
  // The scales of 16 tokens. Those one block further are needed next.
  HWY_INLINE void OpenScales(const TensorView& slabs, int64_t position, int head, float* to) const {
    const Bf16* from = StoredScales(slabs, position, head);
    for (int i = 0; i < kTileTokens; i += kLanes) hn::StoreU(LoadWide(from + i), F32(), to + i);
    const int64_t next = position + kBlockTokens;
    if (next < end_position()) hwy::Prefetch(StoredScales(slabs, next, head));
  }
  HWY_INLINE const Bf16* StoredScales(const TensorView& slabs, int64_t position, int head) const {
    const int page_size = work_.args.kv.page_size;
    const int64_t page = work_.pages[position / page_size];
    const int8_t* slab = slabs.as<int8_t>() + page * slabs.stride[0] + head * slabs.stride[1];
    return SlabScales(slab, page_size, head_dim_) + position % page_size;
  }

  // After the item's last token.
  int64_t end_position() const { return work_.first_position + work_.num_tokens; }

  // From a tile at `position` to the next tile of 16 tokens, if there is one: on the next page if
  // this one ends.
  HWY_INLINE int64_t NextTile(const TensorView& slabs, int64_t position) const {
    const int64_t next = position + kTileTokens;
    if (next >= end_position()) return 0;
    return Slab(slabs, next, 0) - Slab(slabs, position, 0);
  }

  // Values of 16 tokens as one row, not in pairs even if they are BF16.
  using Unpaired = std::conditional_t<std::is_same_v<T, Bf16>, PlainBf16, T>;
  HWY_INLINE Components<const Unpaired*> FlatValues(int64_t position, int component) const {
    const Components<ValueRows<T>> b = Values(position, component);
    return {.first = reinterpret_cast<const Unpaired*>(b.first),
            .component_stride = b.component_stride,
            .scale_stride = 0,
            .stride = 0,
            .count = b.count,
            .ahead = b.ahead};
  }

  // find(position, component) gives the Components there.
  template <typename Find>
  HWY_INLINE void Compose(const Composition& to, const HeadsBySource& heads, int64_t block_begin,
                          TokenRange seen, Find find) const {
    for (int t = TileFloor(seen.begin); t < seen.end; t += kTileTokens) {
      Composed* target = composed() + t * head_dim_;
      if (heads.num_mixed > 0) {
        ComposeTile(find(block_begin + t, 0), heads.num_mixed, to.rows, to.columns, to.mix, target,
                    to.stride);
        target += heads.num_mixed * to.stride;
      }
      if constexpr (std::is_same_v<Composed, float>) {
        for (int i = 0; i < heads.num_plain; ++i, target += to.stride) {
          WidenTile(find(block_begin + t, heads.component[i]), to.rows, to.columns, target);
        }
      }
    }
  }

  static constexpr bool kScaled = std::is_same_v<T, int8_t>;
  using Stored = std::conditional_t<std::is_same_v<T, DotBf16>, Bf16, T>;

  const AttentionWork& work_;
  const int head_dim_;
};

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#endif
