// One block of 64 positions when every virtual head has a single query row: decoding without
// grouped queries. Nothing is composed into memory.
#if defined(MEA_KERNELS_CPU_ATTENTION_SINGLE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEA_KERNELS_CPU_ATTENTION_SINGLE_INL_H_
#undef MEA_KERNELS_CPU_ATTENTION_SINGLE_INL_H_
#else
#define MEA_KERNELS_CPU_ATTENTION_SINGLE_INL_H_
#endif

#include <algorithm>

#include "kernels/cpu/attention_compose-inl.h"
#include "kernels/cpu/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {

using cpu::AttentionWork;
using cpu::HeadsBySource;
using cpu::kBlockTokens;
using cpu::kMaxTogether;
using cpu::kRecordHeader;
using cpu::kTileTokens;
using cpu::TokenRange;

template <typename T>
class SingleRows {
 public:
  SingleRows(const AttentionWork& work, const CacheReader<T>& cache)
      : work_(work), cache_(cache), head_dim_(work.head_dim) {}

  // scores[head - begin][token of the block] = q . K_head for heads [begin, end) of the item.
  void Scores(int64_t block_begin, TokenRange seen, int begin, int end) const {
    const HeadsBySource heads = work_.KeyHeads(begin, end);
    const auto find = [&, this](int token, int component)
                          HWY_ATTR { return cache_.KeyTile(block_begin + token, component); };
    Rows<PlainKeyRows<T>> rows;
    const auto point = [&, this](const int* head, int count, int token) HWY_ATTR {
      for (int i = 0; i < count; ++i) {
        rows.a[i] = work_.queries + int64_t{head[i]} * head_dim_;
        rows.c[i] = work_.scores + (head[i] - begin) * kBlockTokens + token;
      }
    };
    const auto mixed = [&, this](TokenRange tokens) HWY_ATTR {
      const Components<KeyRows<T>> keys = cache_.Keys(block_begin + tokens.begin);
      point(heads.mixed.data(), heads.num_mixed, tokens.begin);
      MultiplyComposed(false, heads.num_mixed, rows.a, head_dim_, keys, cache_.KeyMix(heads),
                       rows.c);
    };
    const auto plain = [&, this](TokenRange tokens, int first, int count, int64_t ahead) HWY_ATTR {
      point(heads.plain.data() + first, count, tokens.begin);
      for (int i = 0; i < count; ++i) rows.b[i] = find(tokens.begin, heads.component[first + i]);
      MultiplyHeads<false>(count, rows.a, head_dim_, rows.b, kTileTokens * kColumnElements<T>,
                           ahead, rows.c);
    };
    const TokenRange whole_tiles = {.begin = TileFloor(seen.begin), .end = seen.end};
    ForTiles(whole_tiles, heads, find, mixed, plain);
  }

  // records[head].values += weights . V_head; head_dim is a multiple of 16.
  void WeightedValues(int64_t block_begin, TokenRange seen, int begin, int end) const {
    const HeadsBySource heads = work_.ValueHeads(begin, end);
    const int num_columns = head_dim_ / kTileColumns;
    const auto find = [&, this](int token, int component)
                          HWY_ATTR { return cache_.ValueTile(block_begin + token, component); };
    Rows<PlainValueRows<T>> rows;
    const auto point = [&, this](const int* head, int count, int token, int column) HWY_ATTR {
      for (int i = 0; i < count; ++i) {
        rows.a[i] = work_.scores + (head[i] - begin) * kBlockTokens + token / kWordElements<T>;
        rows.c[i] = work_.part + head[i] * work_.record_floats + kRecordHeader + column;
      }
    };
    const auto mixed = [&, this](TokenRange tokens) HWY_ATTR {
      Components<ValueRows<T>> values = cache_.Values(block_begin + tokens.begin);
      for (int i = 0; i < num_columns; ++i) {
        point(heads.mixed.data(), heads.num_mixed, tokens.begin, i * kTileColumns);
        MultiplyComposed(true, heads.num_mixed, rows.a, tokens.end - tokens.begin, values,
                         cache_.ValueMix(heads), rows.c);
        values.first = FromColumn(values.first, kTileColumns);
      }
    };
    const auto plain = [&, this](TokenRange tokens, int first, int count, int64_t ahead) HWY_ATTR {
      for (int i = 0; i < num_columns; ++i) {
        point(heads.plain.data() + first, count, tokens.begin, i * kTileColumns);
        for (int j = 0; j < count; ++j) {
          rows.b[j] = find(tokens.begin, heads.component[first + j]);
          rows.b[j] = FromColumn(rows.b[j], i * kTileColumns);
        }
        // Columns are visited one after the other; the next data is prefetched line by line.
        const int64_t bytes = kTileTokens * kTileRowBytes<T>;
        MultiplyHeads<true>(count, rows.a, tokens.end - tokens.begin, rows.b,
                            cache_.value_row_stride(), ahead + i * (bytes - kBytesToNextTile),
                            rows.c);
      }
    };
    // From the first token's pair on: a partner before the window has weight zero.
    const TokenRange pairs = {.begin = seen.begin / kRowsTogether<T> * kRowsTogether<T>,
                              .end = seen.end};
    ForTiles(pairs, heads, find, mixed, plain);
  }

 private:
  // From a tile of values to the next columns of the same rows, as FromColumn moves a pointer.
  static constexpr int64_t kBytesToNextTile =
      kIsInt4<T> ? 0 : kTileColumns * kRowsTogether<T> * sizeof(T);

  // Operands of some heads, as MultiplyHeads and MultiplyComposed take them.
  template <typename B>
  struct Rows {
    const float* a[kMaxTogether];
    B b[kMaxTogether];
    float* c[kMaxTogether];
  };

  // Calls mixed(tokens) for the visible tokens of each tile, and plain(tokens, first, count, ahead)
  // for these and some plain heads, where `ahead` is the prefetch distance in bytes. If heads are
  // mixed, which reads all components, tiles come one by one; otherwise some heads go straight
  // through the block, so memory is read in as many distant streams.
  template <typename Find, typename Mixed, typename Plain>
  HWY_INLINE void ForTiles(TokenRange seen, const HeadsBySource& heads, Find find, Mixed mixed,
                           Plain plain) const {
    const auto next = [](int t) HWY_ATTR { return TileFloor(t) + kTileTokens; };
    const auto tokens = [&](int t) HWY_ATTR { return TokenRange{t, std::min(next(t), seen.end)}; };
    const auto count = [&](int i)
                           HWY_ATTR { return std::min(kHeadsTogether, heads.num_plain - i); };
    if (heads.num_mixed > 0) {
      for (int t = seen.begin; t < seen.end; t = next(t)) {
        mixed(tokens(t));
        for (int i = 0; i < heads.num_plain; i += kHeadsTogether) plain(tokens(t), i, count(i), 0);
      }
      return;
    }
    for (int i = 0; i < heads.num_plain; i += kHeadsTogether) {
      for (int t = seen.begin; t < seen.end; t = next(t)) {
        const T* here = DataOf(find(t, heads.component[i]));
        const T* then = here;
        if (next(t) < seen.end) {
          then = DataOf(find(next(t), heads.component[i]));
        } else if (i + kHeadsTogether < heads.num_plain) {
          then = DataOf(find(seen.begin, heads.component[i + kHeadsTogether]));
        }
        plain(tokens(t), i, count(i), static_cast<int64_t>(sizeof(T)) * (then - here));
      }
    }
  }

  const AttentionWork& work_;
  const CacheReader<T>& cache_;
  const int head_dim_;
};

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#endif
