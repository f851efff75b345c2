// Attention of an item's rows over one block of 64 positions: scores, softmax, weighted values.
#if defined(MEA_KERNELS_CPU_ATTENTION_BLOCK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEA_KERNELS_CPU_ATTENTION_BLOCK_INL_H_
#undef MEA_KERNELS_CPU_ATTENTION_BLOCK_INL_H_
#else
#define MEA_KERNELS_CPU_ATTENTION_BLOCK_INL_H_
#endif

#include <algorithm>
#include <type_traits>

#include "kernels/cpu/attention_compose-inl.h"
#include "kernels/cpu/attention_record-inl.h"
#include "kernels/cpu/attention_single-inl.h"
#include "kernels/cpu/bf16_softmax-inl.h"
#include "kernels/cpu/key_bias-inl.h"
#include "kernels/cpu/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {

using cpu::AttentionWork;
using cpu::HeadsBySource;
using cpu::kBlockTokens;
using cpu::kMaxComposed;
using cpu::kMaxTogether;
using cpu::kRecordHeader;
using cpu::kTileTokens;
using cpu::RoundUp;
using cpu::TokenRange;

template <typename T>
class BlockAttention {
 public:
  explicit BlockAttention(const AttentionWork& work)
      : work_(work),
        cache_(work),
        single_(work, cache_),
        bias_(work),
        head_dim_(work.head_dim),
        group_rows_(work.group_rows) {}

  // Adds the 64 positions from block_begin on to the records of work.part.
  void Run(int64_t block_begin) const {
    const auto sees = [&, this](int token)
                          HWY_ATTR { return !work_.Visible(token, block_begin).empty(); };
    int first = 0;
    int last = work_.num_tokens;
    while (first < last && !sees(first)) ++first;
    while (first < last && !sees(last - 1)) --last;
    if (first == last) return;
    // Earlier rows see the earliest tokens, later rows the latest.
    const TokenRange seen = {.begin = work_.Visible(first, block_begin).begin,
                             .end = work_.Visible(last - 1, block_begin).end};
    cache_.Open(block_begin, seen);
    const int most = composes_in_registers() ? kMaxTogether : kMaxComposed;
    for (int begin = 0; begin < work_.num_heads(); begin += most) {
      const Batch batch = {.block_begin = block_begin,
                           .seen = seen,
                           .begin = begin,
                           .end = std::min(begin + most, work_.num_heads()),
                           .first_token = first,
                           .last_token = last,
                           .first_row = first * work_.group,
                           .num_rows = (last - first) * work_.group};
      Scores(batch);
      if (!work_.args.key_bias.empty()) AddBiasScores(batch);
      for (int head = batch.begin; head < batch.end; ++head) Softmax(batch, head);
      WeightedValues(batch);
    }
  }

 private:
  // Heads [begin, end) of the item over one block, and the rows of each that see any of it.
  struct Batch {
    int64_t block_begin;
    TokenRange seen;  // by any row
    int begin, end;
    int first_token, last_token;  // of the item
    int first_row, num_rows;      // of a head
  };

  // Whether to multiply a slab in place: always if it needs no widening, else if the rows are so
  // few that widening in registers happens once.
  bool reads_in_place() const { return !kWidens || group_rows_ <= kMaxTileRows; }

  // In place, a tile must not reach beyond head_dim: there may be no memory after the last slab.
  bool has_whole_tiles() const { return head_dim_ % kTileColumns == 0; }

  bool composes_in_registers() const { return has_whole_tiles() && group_rows_ == 1; }

  // scores[head][row][token of the block] = q . K_head
  void Scores(const Batch& batch) const {
    if (group_rows_ == 1) {
      return single_.Scores(batch.block_begin, batch.seen, batch.begin, batch.end);
    }
    HeadsBySource heads = work_.KeyHeads(batch.begin, batch.end);
    const int first_tile = TileFloor(batch.seen.begin);
    const int num_tiles = (batch.seen.end - first_tile + kTileTokens - 1) / kTileTokens;
    const auto multiply = [&](int head, auto tiles) HWY_ATTR {
      const int64_t row = head * group_rows_ + batch.first_row;
      const int64_t score_row = (head - batch.begin) * group_rows_ + batch.first_row;
      Multiply<false>(work_.queries + row * head_dim_, head_dim_, batch.num_rows, head_dim_, tiles,
                      work_.scores + score_row * kBlockTokens + first_tile, kBlockTokens);
    };
    if (reads_in_place()) {
      for (int i = 0; i < heads.num_plain; ++i) {
        const auto tile = [&, this](int n) HWY_ATTR {
          return cache_.KeyTile(batch.block_begin + first_tile + n * kTileTokens,
                                heads.component[i]);
        };
        // The next head's slab follows this one.
        multiply(heads.plain[i], InCache(tile, num_tiles, kTileTokens * kRowsTogether<T>,
                                         cache_.key_component_stride()));
      }
      heads.num_plain = 0;
    }
    cache_.ComposeKeys(batch.block_begin, batch.seen, heads);
    const Composed* keys = cache_.composed() + first_tile * head_dim_;
    ForComposed(heads, [&, this](int head) HWY_ATTR {
      const auto tile = [=, this](int i) HWY_ATTR { return keys + i * kTileTokens * head_dim_; };
      multiply(head, InScratch(tile, num_tiles, kTileTokens * kRowsTogether<Composed>));
      keys += cache_.key_stride();
    });
  }

  void AddBiasScores(const Batch& batch) const {
    const int first_tile = TileFloor(batch.seen.begin);
    const int num_tiles = (batch.seen.end - first_tile + kTileTokens - 1) / kTileTokens;
    for (int head = batch.begin; head < batch.end; ++head) {
      const int64_t score_row = (head - batch.begin) * group_rows_ + batch.first_row;
      bias_.Add(batch.block_begin, head, batch.first_row, batch.num_rows, first_tile, num_tiles,
                work_.scores + score_row * kBlockTokens);
    }
  }

  // body(head) in the order in which CacheReader composes.
  template <typename Body>
  HWY_INLINE void ForComposed(const HeadsBySource& heads, Body body) const {
    for (int i = 0; i < heads.num_mixed; ++i) body(heads.mixed[i]);
    for (int i = 0; i < heads.num_plain; ++i) body(heads.plain[i]);
  }

  // Replaces scores by exp(score - max), zero where a row sees no token, and rescales the records.
  void Softmax(const Batch& batch, int head) const {
    HWY_ALIGN float norms[kBlockTokens] = {};
    const bool normed = work_.args.kv.spec.key_norm_heads > 0;
    if (normed) LoadKeyNorms(batch, head, norms);
    const int score_row = (head - batch.begin) * group_rows_;
    for (int token = batch.first_token; token < batch.last_token; ++token) {
      for (int j = 0; j < work_.group; ++j) {
        const TokenRange visible = work_.VisibleToRow(token, head, j, batch.block_begin);
        const int row = token * work_.group + j;
        float* scores = work_.scores + (score_row + row) * kBlockTokens;
        if (visible.empty()) {  // another row of the token sees some of the block
          std::fill(scores, scores + kBlockTokens, 0.0f);
          continue;
        }
        if (normed) {
          for (int i = 0; i < kBlockTokens; i += kLanes) {
            hn::StoreU(hn::Mul(LoadWide(scores + i), LoadWide(norms + i)), F32(), scores + i);
          }
        }
        SoftmaxRow<T>(scores, visible,
                      work_.part + (head * group_rows_ + row) * work_.record_floats,
                      work_.record_floats);
      }
    }
  }

  // 1 / rms of the virtual keys of one head, for the tokens of the block.
  HWY_INLINE void LoadKeyNorms(const Batch& batch, int head, float* norms) const {
    const TensorView& key_norms = work_.args.kv.key_norms;
    const int page_size = work_.args.kv.page_size;
    for (int t = TileFloor(batch.seen.begin); t < batch.seen.end; t += kTileTokens) {
      const int64_t position = batch.block_begin + t;
      const float* source = key_norms.row<float>(work_.pages[position / page_size]) +
                            (work_.item.head_begin + head) * key_norms.stride[1] +
                            position % page_size;
      std::copy(source, source + kTileTokens, norms + t);
    }
  }

  // records.values += weights . V_head
  void WeightedValues(const Batch& batch) const {
    if (composes_in_registers()) {
      return single_.WeightedValues(batch.block_begin, batch.seen, batch.begin, batch.end);
    }
    HeadsBySource heads = work_.ValueHeads(batch.begin, batch.end);
    if (has_whole_tiles() && reads_in_place()) {
      ValuesInPlace(batch, heads);
      heads.num_plain = 0;
    }
    cache_.ComposeValues(batch.block_begin, batch.seen, heads);
    const int num_tiles = static_cast<int>(RoundUp(head_dim_, kTileColumns)) / kTileColumns;
    const TokenRange tokens = {.begin = batch.seen.begin / kTogether * kTogether,
                               .end = batch.seen.end};
    const Composed* values = cache_.composed() + tokens.begin * head_dim_;
    ForComposed(heads, [&, this](int head) HWY_ATTR {
      const auto tile = [=](int i) HWY_ATTR { return values + i * kTileColumns * kTogether; };
      AddValues(batch, head, tokens, InScratch(tile, num_tiles, head_dim_ * kTogether));
      values += cache_.value_stride();
    });
  }

  void ValuesInPlace(const Batch& batch, const HeadsBySource& heads) const {
    // From the first token's pair on: a partner before the window has weight zero. As far as a page
    // goes at a time.
    TokenRange tokens = {.begin = batch.seen.begin / kRowsTogether<T> * kRowsTogether<T>, .end = 0};
    for (; tokens.begin < batch.seen.end; tokens.begin = tokens.end) {
      const int64_t left = work_.TokensLeftOnPage(batch.block_begin + tokens.begin);
      tokens.end = static_cast<int>(std::min<int64_t>(batch.seen.end, tokens.begin + left));
      for (int i = 0; i < heads.num_plain; ++i) {
        const Components<ValueRows<T>> all =
            cache_.Values(batch.block_begin + tokens.begin, heads.component[i]);
        const auto tile = [&](int n) HWY_ATTR { return Behind(all.first, n * kTileElements, 0); };
        // The next head's slab follows this one.
        AddValues(batch, heads.plain[i], tokens,
                  InCache(tile, head_dim_ / kTileColumns, all.stride, all.component_stride));
      }
    }
  }

  // records[head].values += weights of `tokens` . V, for the rows that see the block.
  template <typename B>
  HWY_INLINE void AddValues(const Batch& batch, int head, TokenRange tokens, const B& tiles) const {
    const int64_t row = head * group_rows_ + batch.first_row;
    const int64_t score_row = (head - batch.begin) * group_rows_ + batch.first_row;
    const int first_word = tokens.begin / kWordElements<T>;
    Multiply<true>(work_.scores + score_row * kBlockTokens + first_word, kBlockTokens,
                   batch.num_rows, tokens.end - tokens.begin, tiles,
                   work_.part + row * work_.record_floats + kRecordHeader, work_.record_floats);
  }

  using Composed = ComposedElement<T>;
  static constexpr bool kWidens = !std::is_same_v<T, Composed>;
  static constexpr int kTogether = kRowsTogether<Composed>;
  static constexpr int kTileElements = kTileColumns * kRowsTogether<T>;

  const AttentionWork& work_;
  const CacheReader<T> cache_;
  const SingleRows<T> single_;
  const BiasScores bias_;
  const int head_dim_;
  const int group_rows_;
};

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#endif
