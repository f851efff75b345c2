// The cache as attention reads it: the slabs of a block in place, and virtual heads composed from
// them into scratch memory.
#if defined(MEA_KERNELS_CPU_ATTENTION_COMPOSE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEA_KERNELS_CPU_ATTENTION_COMPOSE_INL_H_
#undef MEA_KERNELS_CPU_ATTENTION_COMPOSE_INL_H_
#else
#define MEA_KERNELS_CPU_ATTENTION_COMPOSE_INL_H_
#endif

#include <hwy/cache_control.h>

#include <algorithm>
#include <type_traits>

#include "kernels/cpu/attention_work.h"
#include "kernels/cpu/bf16_compose-inl.h"
#include "kernels/cpu/compose_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {

using cpu::AttentionWork;
using cpu::HeadsBySource;
using cpu::kBlockTokens;
using cpu::kTileTokens;
using cpu::TokenRange;

constexpr int TileFloor(int token) { return token / kTileTokens * kTileTokens; }

// How slabs of stored elements are pointed at (tile-inl.h), where heads are mixed and where they
// are not.
template <typename T>
using KeyRows = std::conditional_t<std::is_same_v<T, int8_t>, ColumnScaled,
                                   std::conditional_t<kIsInt4<T>, ColumnScaledInt4, const T*>>;
template <typename T>
using ValueRows = std::conditional_t<std::is_same_v<T, int8_t>, RowScaled,
                                     std::conditional_t<kIsInt4<T>, RowScaledInt4, const T*>>;
template <typename T>
using PlainKeyRows = std::conditional_t<kIsInt4<T>, const T*, KeyRows<T>>;
template <typename T>
using PlainValueRows = std::conditional_t<kIsInt4<T>, PlainInt4Columns, ValueRows<T>>;

// What heads are composed in: floats, unless products take BF16.
template <typename T>
using ComposedElement = std::conditional_t<std::is_same_v<T, DotBf16>, DotBf16, float>;

// Whether a slab needs no widening before it is multiplied.
template <typename T>
constexpr bool kMultipliesInPlace = std::is_same_v<T, ComposedElement<T>>;

// Whether rows of one virtual head multiply a slab in place: always if it needs no widening, else
// if they are so few that widening in registers happens once.
template <typename T>
constexpr bool ReadsInPlace(int group_rows) {
  return kMultipliesInPlace<T> || group_rows <= kMaxTileRows;
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

  // Component `head` of the 16 tokens from `position` on, as plain heads need it unless Rows says
  // otherwise.
  template <typename Rows = PlainKeyRows<T>>
  HWY_INLINE Rows KeyTile(int64_t position, int head) const {
    return At<Rows>(Slab(work_.args.kv.keys, position, head),
                    KeyScales(position, head - work_.first_key()));
  }
  template <typename Rows = PlainValueRows<T>>
  HWY_INLINE Rows ValueTile(int64_t position, int head) const {
    return At<Rows>(Slab(work_.args.kv.values, position, head),
                    ValueScales(position, head - work_.first_value()));
  }
  // All components of the keys, or values, of the 16 tokens from `position` on.
  template <typename Rows = KeyRows<T>>
  HWY_INLINE Components<Rows> Keys(int64_t position, int component = 0) const {
    return {.first = KeyTile<Rows>(position, component),
            .component_stride = key_component_stride(),
            .scale_stride = kScalesOfHead,
            .stride = kTileTokens * kColumnElements<T>,
            .count = work_.args.kv.spec.key_heads,
            .ahead = NextTile(work_.args.kv.keys, position)};
  }
  template <typename Rows = ValueRows<T>>
  HWY_INLINE Components<Rows> Values(int64_t position, int component = 0) const {
    return {.first = ValueTile<Rows>(position, component),
            .component_stride = work_.args.kv.values.stride[1],
            .scale_stride = kScalesOfHead,
            .stride = value_row_stride(),
            .count = work_.args.kv.spec.value_heads,
            .ahead = NextTile(work_.args.kv.values, position)};
  }

  // The scales of the n-th slab of an open block that the item reads, from `position` on, and in 4
  // bits its zeros.
  HWY_INLINE const float* KeyScales(int64_t position, int n) const {
    return Opened(work_.key_scales, position, n);
  }
  HWY_INLINE const float* ValueScales(int64_t position, int n) const {
    return Opened(work_.value_scales, position, n);
  }
  HWY_INLINE static const float* ZerosOf(const float* scales) { return scales + kBlockTokens; }

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
  // Between rows of values, or pairs of rows.
  int64_t value_row_stride() const {
    return work_.args.kv.values.stride[2] * (kIsInt4<T> ? 1 : kRowsTogether<T>);
  }

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
    const auto find_plain = [this](int64_t position, int component)
                                HWY_ATTR { return Keys<PlainKeyRows<T>>(position, component); };
    Compose(to, heads, block_begin, seen, find, find_plain);
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
        return Compose(to, heads, block_begin, seen, flat, flat);
      }
    }
    const auto find_plain = [this](int64_t position, int component)
                                HWY_ATTR { return Values<PlainValueRows<T>>(position, component); };
    Compose(to, heads, block_begin, seen, find, find_plain);
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
           head * slabs.stride[1] + position % page_size * slabs.stride[2];
  }

  template <typename Rows>
  HWY_INLINE static Rows At(const T* slab, [[maybe_unused]] const float* scales) {
    if constexpr (std::is_pointer_v<Rows>) {
      return slab;
    } else {
      Rows rows{};
      rows.data = slab;
      if constexpr (requires { rows.scales; }) rows.scales = scales;
      if constexpr (requires { rows.zeros; }) rows.zeros = ZerosOf(scales);
      return rows;
    }
  }

  // The scales of slabs [first, first + count) of the block, into `opened`.
  HWY_INLINE void Open(const TensorView& slabs, int64_t block_begin, TokenRange seen, int first,
                       int count, float* opened) const {
    if constexpr (kScaled) {
      for (int n = 0; n < count; ++n) {
        float* const scales = Opened(opened, block_begin, n);
        for (int t = TileFloor(seen.begin); t < seen.end; t += kTileTokens) {
          OpenScales(slabs, block_begin + t, first + n, scales + t);
        }
        // What meets weights must be finite where they are zero.
        if constexpr (std::is_same_v<T, Int4Columns>) {
          for (float* const numbers : {scales, scales + kBlockTokens}) {
            std::fill(numbers, numbers + seen.begin, 0.0f);
            std::fill(numbers + seen.end, numbers + kBlockTokens, 0.0f);
          }
        }
      }
    }
  }
  // The scales of slab n of the block.
  HWY_INLINE float* Opened(float* opened, int64_t position, int n) const {
    return opened + n * kScalesOfHead + position % kBlockTokens;
  }
  // The scales of 16 tokens, and their zeros a block's length behind. Those one block further are
  // needed next.
  HWY_INLINE void OpenScales(const TensorView& slabs, int64_t position, int head, float* to) const {
    const Bf16* const from = StoredScales(slabs, position, head);
    const Bf16* const next = position + kBlockTokens < end_position()
                                 ? StoredScales(slabs, position + kBlockTokens, head)
                                 : from;
    for (int64_t i = 0; i < kScalesOfHead / kBlockTokens; ++i) {
      Widen(from + i * work_.args.kv.page_size, to + i * kBlockTokens);
      hwy::Prefetch(next + i * work_.args.kv.page_size);
    }
  }
  HWY_INLINE static void Widen(const Bf16* from, float* to) {
    for (int i = 0; i < kTileTokens; i += kLanes) hn::StoreU(LoadWide(from + i), F32(), to + i);
  }
  HWY_INLINE const Bf16* StoredScales(const TensorView& slabs, int64_t position, int head) const {
    const int page_size = work_.args.kv.page_size;
    const int64_t page = work_.pages[position / page_size];
    const Stored* slab = slabs.as<Stored>() + page * slabs.stride[0] + head * slabs.stride[1];
    return reinterpret_cast<const Bf16*>(slab + page_size * slabs.stride[2]) + position % page_size;
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

  // find(position, component) gives the Components there, find_plain those of a head that is not
  // mixed.
  template <typename Find, typename FindPlain>
  HWY_INLINE void Compose(const Composition& to, const HeadsBySource& heads, int64_t block_begin,
                          TokenRange seen, Find find, FindPlain find_plain) const {
    for (int t = TileFloor(seen.begin); t < seen.end; t += kTileTokens) {
      Composed* target = composed() + t * head_dim_;
      if (heads.num_mixed > 0) {
        ComposeTile(find(block_begin + t, 0), heads.num_mixed, to.rows, to.columns, to.mix, target,
                    to.stride);
        target += heads.num_mixed * to.stride;
      }
      if constexpr (std::is_same_v<Composed, float>) {
        for (int i = 0; i < heads.num_plain; ++i, target += to.stride) {
          WidenTile(find_plain(block_begin + t, heads.component[i]), to.rows, to.columns, target);
        }
      }
    }
  }

  using Stored = std::conditional_t<std::is_same_v<T, DotBf16>, Bf16,
                                    std::conditional_t<kIsInt4<T>, Int4Pair, T>>;
  static constexpr bool kScaled = KvHeadScales(DTypeOf<Stored>()) > 0;
  // Floats of an open slab: scales, then zeros.
  static constexpr int64_t kScalesOfHead = KvHeadScales(DTypeOf<Stored>()) * kBlockTokens;

  const AttentionWork& work_;
  const int head_dim_;
};

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#endif
