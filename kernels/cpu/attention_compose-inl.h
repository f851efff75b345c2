// The cache as attention reads it: where the slabs of a block lie, and virtual heads composed from
// them into scratch memory.
#if defined(MEA_KERNELS_CPU_ATTENTION_COMPOSE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEA_KERNELS_CPU_ATTENTION_COMPOSE_INL_H_
#undef MEA_KERNELS_CPU_ATTENTION_COMPOSE_INL_H_
#else
#define MEA_KERNELS_CPU_ATTENTION_COMPOSE_INL_H_
#endif

#include "kernels/cpu/attention_work.h"
#include "kernels/cpu/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {

using cpu::AttentionWork;
using cpu::kBlockTokens;
using cpu::kTileTokens;
using cpu::TokenRange;

constexpr int TileFloor(int token) { return token / kTileTokens * kTileTokens; }

template <typename T>
class CacheReader {
 public:
  explicit CacheReader(const AttentionWork& work) : work_(work), head_dim_(work.head_dim) {}

  // Component `head` of the 16 tokens from `position` on.
  HWY_INLINE const T* KeyTile(int64_t position, int head) const {
    return Slab(work_.args.kv.keys, position, head);
  }
  // All components of the keys, or values, of the 16 tokens from `position` on.
  HWY_INLINE Components<T> Keys(int64_t position, int component = 0) const {
    return {.data = KeyTile(position, component),
            .component_stride = work_.args.kv.keys.stride[1],
            .stride = kTileTokens * kRowsTogether<T>,
            .count = work_.args.kv.spec.key_heads,
            .ahead = kTileTokens * head_dim_};
  }
  HWY_INLINE Components<T> Values(int64_t position, int component = 0) const {
    return {.data = Slab(work_.args.kv.values, position, component),
            .component_stride = work_.args.kv.values.stride[1],
            .stride = int64_t{head_dim_} * kRowsTogether<T>,
            .count = work_.args.kv.spec.value_heads,
            .ahead = kTileTokens * head_dim_};
  }

  // Floats between the composed keys, or values, of two heads.
  int64_t key_stride() const { return int64_t{kBlockTokens} * head_dim_; }
  int64_t value_stride() const { return int64_t{kBlockTokens} * head_dim_ + kTileColumns; }

  // Composes or widens the block's visible tiles for heads [begin, end) of the item into
  // work.composed: for each head, keys as [tile][head_dim][16 tokens], values as [token][head_dim].
  void ComposeKeys(int64_t block_begin, TokenRange seen, int begin, int end) const {
    const auto find = [this](int64_t position, int component)
                          HWY_ATTR { return Keys(position, component); };
    Compose({.begin = begin,
             .end = end,
             .mix = work_.mixes_keys() ? work_.key_mix : nullptr,
             .rows = head_dim_,
             .columns = kTileTokens,
             .stride = key_stride()},
            block_begin, seen, find);
  }
  void ComposeValues(int64_t block_begin, TokenRange seen, int begin, int end) const {
    const auto find = [this](int64_t position, int component)
                          HWY_ATTR { return Values(position, component); };
    Composition composition = {.begin = begin,
                               .end = end,
                               .mix = work_.mixes_values() ? work_.value_mix : nullptr,
                               .rows = kTileTokens,
                               .columns = head_dim_,
                               .stride = value_stride()};
    if (head_dim_ % kTileColumns == 0) return Compose(composition, block_begin, seen, find);
    // Unpaired rows whose length no vector divides: the 16 tokens are one long row.
    composition.rows = 1;
    composition.columns = kTileTokens * head_dim_;
    const auto flat = [&find](int64_t position, int component) HWY_ATTR {
      const Components<T> b = find(position, component);
      return Components<Unpaired<T>>{.data = reinterpret_cast<const Unpaired<T>*>(b.data),
                                     .component_stride = b.component_stride,
                                     .stride = 0,
                                     .count = b.count,
                                     .ahead = b.ahead};
    };
    Compose(composition, block_begin, seen, flat);
  }

 private:
  // Heads [begin, end) of the item, in tiles of `rows` rows of `columns`, `stride` floats for each
  // head.
  struct Composition {
    int begin, end;
    const float* mix;  // null: the heads are components themselves
    int rows, columns;
    int64_t stride;
  };

  HWY_INLINE const T* Slab(const TensorView& slabs, int64_t position, int head) const {
    const int page_size = work_.args.kv.page_size;
    const int64_t page = work_.pages[position / page_size];
    return slabs.as<T>() + page * slabs.stride[0] + head * slabs.stride[1] +
           position % page_size * head_dim_;
  }

  // find(position, component) gives the Components there.
  template <typename Find>
  HWY_INLINE void Compose(const Composition& to, int64_t block_begin, TokenRange seen,
                          Find find) const {
    for (int t = TileFloor(seen.begin); t < seen.end; t += kTileTokens) {
      float* target = work_.composed + t * head_dim_;
      if (to.mix != nullptr) {
        const auto all = find(block_begin + t, 0);
        ComposeTile(all, to.end - to.begin, to.rows, to.columns, to.mix + to.begin * all.count,
                    target, to.stride);
        continue;
      }
      for (int head = to.begin; head < to.end; ++head) {
        auto one = find(block_begin + t, work_.item.head_begin + head);
        one.count = 1;
        const float weight = 1.0f;
        ComposeTile<1>(one, to.rows, to.columns, &weight, target + (head - to.begin) * to.stride,
                       to.stride);
      }
    }
  }

  const AttentionWork& work_;
  const int head_dim_;
};

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#endif
