// The cache as attention reads it: where the slabs of a block lie, and virtual heads composed from
// them into scratch memory.
#if defined(MEA_KERNELS_CPU_ATTENTION_COMPOSE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEA_KERNELS_CPU_ATTENTION_COMPOSE_INL_H_
#undef MEA_KERNELS_CPU_ATTENTION_COMPOSE_INL_H_
#else
#define MEA_KERNELS_CPU_ATTENTION_COMPOSE_INL_H_
#endif

#include <type_traits>

#include "kernels/cpu/attention_work.h"
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

// What the cache's elements are read as: 8 bits are widened a block at a time, the others in
// registers.
template <typename Stored>
using Read = std::conditional_t<std::is_same_v<Stored, int8_t>, float, Stored>;

template <typename Stored>
class CacheReader {
 public:
  using T = Read<Stored>;

  explicit CacheReader(const AttentionWork& work) : work_(work), head_dim_(work.head_dim) {}

  // Makes a block readable. Where no row sees a tile of it, what is read there is arbitrary.
  void Open(int64_t block_begin, TokenRange seen) const {
    if constexpr (std::is_same_v<Stored, int8_t>) {
      for (int t = TileFloor(seen.begin); t < seen.end; t += kTileTokens) {
        for (int n = 0; n < work_.num_keys(); ++n) WidenKeys(block_begin, t, n);
        for (int n = 0; n < work_.num_values(); ++n) WidenValues(block_begin, t, n);
      }
    }
  }

  // Component `head` of the 16 tokens from `position` on.
  HWY_INLINE const T* KeyTile(int64_t position, int head) const {
    if constexpr (std::is_same_v<Stored, int8_t>) {
      return Widened(position, head - work_.first_key());
    } else {
      return Slab(work_.args.kv.keys, position, head);
    }
  }
  HWY_INLINE const T* ValueTile(int64_t position, int head) const {
    if constexpr (std::is_same_v<Stored, int8_t>) {
      return Widened(position, work_.num_keys() + head - work_.first_value());
    } else {
      return Slab(work_.args.kv.values, position, head);
    }
  }
  // All components of the keys, or values, of the 16 tokens from `position` on.
  HWY_INLINE Components<T> Keys(int64_t position, int component = 0) const {
    return {.data = KeyTile(position, component),
            .component_stride = key_component_stride(),
            .stride = kTileTokens * kRowsTogether<T>,
            .count = work_.args.kv.spec.key_heads,
            .ahead = NextTile(work_.args.kv.keys, position)};
  }
  HWY_INLINE Components<T> Values(int64_t position, int component = 0) const {
    return {.data = ValueTile(position, component),
            .component_stride = ComponentStride(work_.args.kv.values),
            .stride = int64_t{head_dim_} * kRowsTogether<T>,
            .count = work_.args.kv.spec.value_heads,
            .ahead = NextTile(work_.args.kv.values, position)};
  }

  // The weights of the mixed heads.
  MixColumns KeyMix(const HeadsBySource& heads) const {
    return {.data = work_.key_mix + heads.first_mix, .stride = heads.mix_stride};
  }
  MixColumns ValueMix(const HeadsBySource& heads) const {
    return {.data = work_.value_mix + heads.first_mix, .stride = heads.mix_stride};
  }

  int64_t key_component_stride() const { return ComponentStride(work_.args.kv.keys); }

  // Floats between the composed keys, or values, of two heads.
  int64_t key_stride() const { return int64_t{kBlockTokens} * head_dim_; }
  int64_t value_stride() const { return int64_t{kBlockTokens} * head_dim_ + kTileColumns; }

  // Composes the mixed heads of the block's visible tiles into work.composed, one behind the other,
  // and widens the plain ones behind them: for each, keys as [tile][head_dim][16 tokens], values as
  // [token][head_dim].
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
    if (head_dim_ % kTileColumns == 0) return Compose(to, heads, block_begin, seen, find);
    // Unpaired rows whose length no vector divides: the 16 tokens are one long row.
    to.rows = 1;
    to.columns = kTileTokens * head_dim_;
    const auto flat = [&find](int64_t position, int component) HWY_ATTR {
      const Components<T> b = find(position, component);
      return Components<Unpaired<T>>{.data = reinterpret_cast<const Unpaired<T>*>(b.data),
                                     .component_stride = b.component_stride,
                                     .stride = 0,
                                     .count = b.count,
                                     .ahead = b.ahead};
    };
    Compose(to, heads, block_begin, seen, flat);
  }

 private:
  // Heads in tiles of `rows` rows of `columns`, `stride` floats for each head.
  struct Composition {
    MixColumns mix;
    int rows, columns;
    int64_t stride;
  };

  HWY_INLINE const Stored* Slab(const TensorView& slabs, int64_t position, int head) const {
    const int page_size = work_.args.kv.page_size;
    const int64_t page = work_.pages[position / page_size];
    return slabs.as<Stored>() + page * slabs.stride[0] + head * slabs.stride[1] +
           position % page_size * head_dim_;
  }

  // Slab n of the block, as slabs in the cache lie.
  HWY_INLINE float* Widened(int64_t position, int n) const {
    return work_.widened + (int64_t{n} * kBlockTokens + position % kBlockTokens) * head_dim_;
  }
  // The scales of 16 tokens.
  HWY_INLINE const Bf16* Scales(const TensorView& slabs, int64_t position, int head) const {
    const int page_size = work_.args.kv.page_size;
    const int64_t page = work_.pages[position / page_size];
    const int8_t* slab = slabs.as<int8_t>() + page * slabs.stride[0] + head * slabs.stride[1];
    return SlabScales(slab, page_size, head_dim_) + position % page_size;
  }
  void WidenKeys(int64_t block_begin, int t, int n) const {
    const TensorView& keys = work_.args.kv.keys;
    const int64_t position = block_begin + t;
    const int head = work_.first_key() + n;
    const int8_t* from = Slab(keys, position, head);
    const Bf16* scales = Scales(keys, position, head);
    float* to = Widened(position, n);
    for (int column = 0; column < kTileTokens; column += kLanes) {
      const Vec scale = LoadWide(scales + column);
      for (int i = 0; i < head_dim_; ++i) {
        const int at = i * kTileTokens + column;
        hn::StoreU(hn::Mul(LoadWide(from + at), scale), F32(), to + at);
      }
    }
  }
  void WidenValues(int64_t block_begin, int t, int n) const {
    const TensorView& values = work_.args.kv.values;
    const int64_t position = block_begin + t;
    const int head = work_.first_value() + n;
    const Bf16* scales = Scales(values, position, head);
    for (int token = 0; token < kTileTokens; ++token) {
      const int8_t* from = Slab(values, position, head) + token * head_dim_;
      float* to = Widened(position, work_.num_keys() + n) + token * head_dim_;
      const Vec scale = hn::Set(F32(), ToFloat(scales[token]));
      int i = 0;
      for (; i + kLanes <= head_dim_; i += kLanes) {
        hn::StoreU(hn::Mul(LoadWide(from + i), scale), F32(), to + i);
      }
      if (i < head_dim_) {
        StoreTail(hn::Mul(LoadTail(from + i, head_dim_ - i), scale), to + i, head_dim_ - i);
      }
    }
  }
  // From a tile at `position` to the tile of the 16 tokens behind it, where there are any: on the
  // next page where this one ends. Of a block that was widened, all is near.
  HWY_INLINE int64_t NextTile(const TensorView& slabs, int64_t position) const {
    const int64_t next = position + kTileTokens;
    if (next >= work_.first_position + work_.num_tokens) return 0;
    if constexpr (std::is_same_v<Stored, int8_t>) return 0;
    return Slab(slabs, next, 0) - Slab(slabs, position, 0);
  }

  // find(position, component) gives the Components there.
  template <typename Find>
  HWY_INLINE void Compose(const Composition& to, const HeadsBySource& heads, int64_t block_begin,
                          TokenRange seen, Find find) const {
    for (int t = TileFloor(seen.begin); t < seen.end; t += kTileTokens) {
      float* target = work_.composed + t * head_dim_;
      if (heads.num_mixed > 0) {
        ComposeTile(find(block_begin + t, 0), heads.num_mixed, to.rows, to.columns, to.mix, target,
                    to.stride);
        target += heads.num_mixed * to.stride;
      }
      for (int i = 0; i < heads.num_plain; ++i, target += to.stride) {
        WidenTile(find(block_begin + t, heads.component[i]), to.rows, to.columns, target);
      }
    }
  }

  HWY_INLINE int64_t ComponentStride(const TensorView& slabs) const {
    return std::is_same_v<Stored, int8_t> ? int64_t{kBlockTokens} * head_dim_ : slabs.stride[1];
  }

  const AttentionWork& work_;
  const int head_dim_;
};

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#endif
