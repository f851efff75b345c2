// Softmax and weighted values of an item's rows over one block, for values of one format.
#if defined(MEA_KERNELS_CPU_ATTENTION_VALUES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEA_KERNELS_CPU_ATTENTION_VALUES_INL_H_
#undef MEA_KERNELS_CPU_ATTENTION_VALUES_INL_H_
#else
#define MEA_KERNELS_CPU_ATTENTION_VALUES_INL_H_
#endif

#include <algorithm>
#include <array>

#include "kernels/cpu/attention_compose-inl.h"
#include "kernels/cpu/attention_record-inl.h"
#include "kernels/cpu/attention_single-inl.h"
#include "kernels/cpu/bf16_softmax-inl.h"
#include "kernels/cpu/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {

using cpu::AttentionWork;
using cpu::HeadBatch;
using cpu::HeadsBySource;
using cpu::kBlockTokens;
using cpu::kRecordHeader;
using cpu::kTileTokens;
using cpu::RoundUp;
using cpu::TokenRange;

// What depends on the format of values.
class ValueSide {
 public:
  virtual ~ValueSide() = default;
  // As of keys.
  virtual bool MultipliesInPlace() const = 0;
  // Makes a row of the mix an operand of the products, in place.
  virtual void Round(float* row, int count) const = 0;
  // Makes a block readable.
  virtual void Open(int64_t block_begin, TokenRange seen) const = 0;
  // Replaces scores by exp(score - max), zero where a row sees no token, and rescales the records.
  virtual void Softmax(const HeadBatch& batch) const = 0;
  // records.values += weights . V_head
  virtual void WeightedValues(const HeadBatch& batch) const = 0;
};

template <typename T>
class ValuesOf : public ValueSide {
 public:
  explicit ValuesOf(const AttentionWork& work)
      : work_(work),
        cache_(work),
        single_(work, cache_),
        head_dim_(work.head_dim),
        group_rows_(work.group_rows) {}

  bool MultipliesInPlace() const override {
    return kMultipliesInPlace<T> && has_whole_tiles() && !work_.mixes_values();
  }
  void Round(float* row, int count) const override { RoundOperand<T>(row, count); }
  void Open(int64_t block_begin, TokenRange seen) const override {
    cache_.OpenValues(block_begin, seen);
  }
  void Softmax(const HeadBatch& batch) const override {
    for (int head = batch.begin; head < batch.end; ++head) Softmax(batch, head);
  }
  void WeightedValues(const HeadBatch& batch) const override {
    if constexpr (kIsInt4<T>) ScaleWeights(batch);
    if (has_whole_tiles() && group_rows_ == 1) {
      return single_.WeightedValues(batch.block_begin, batch.seen, batch.begin, batch.end);
    }
    HeadsBySource heads = work_.ValueHeads(batch.begin, batch.end);
    if (has_whole_tiles() && ReadsInPlace<T>(group_rows_)) {
      ValuesInPlace(batch, heads);
      heads.num_plain = 0;
    }
    cache_.ComposeValues(batch.block_begin, batch.seen, heads);
    const int num_tiles = static_cast<int>(RoundUp(head_dim_, kTileColumns)) / kTileColumns;
    const TokenRange tokens = {.begin = batch.seen.begin / kTogether * kTogether,
                               .end = batch.seen.end};
    const auto* values = cache_.composed() + tokens.begin * head_dim_;
    ForComposed(heads, [&, this](int head) HWY_ATTR {
      const auto tile = [=](int i) HWY_ATTR { return values + i * kTileColumns * kTogether; };
      AddValues(batch, head, tokens, InScratch(tile, num_tiles, head_dim_ * kTogether));
      values += cache_.value_stride();
    });
  }

 private:
  static constexpr int kTogether = kRowsTogether<ComposedElement<T>>;

  // In place, a tile must not reach beyond head_dim: there may be no memory after the last slab.
  bool has_whole_tiles() const { return head_dim_ % kTileColumns == 0; }

  void Softmax(const HeadBatch& batch, int head) const {
    HWY_ALIGN float norms[kBlockTokens] = {};
    const bool normed = work_.args.kv.spec.key_norm_heads > 0;
    if (normed) LoadKeyNorms(batch, head, norms);
    float* const scores =
        work_.scores + ((head - batch.begin) * group_rows_ + batch.first_row) * kBlockTokens;
    float* const records =
        work_.part + (head * group_rows_ + batch.first_row) * work_.record_floats;
    std::array<TokenRange, kSoftmaxRows> visible;
    int num_ready = 0;
    const auto finish = [&, this](int end) HWY_ATTR {
      const int first = end - num_ready;
      SoftmaxRows<T>(scores + first * kBlockTokens, visible.data(), num_ready,
                     records + first * work_.record_floats, work_.record_floats);
      num_ready = 0;
    };
    for (int row = 0; row < batch.num_rows; ++row) {
      const int token = batch.first_token + row / work_.group;
      visible[num_ready] = work_.VisibleToRow(token, head, row % work_.group, batch.block_begin);
      float* const row_scores = scores + row * kBlockTokens;
      if (visible[num_ready].empty()) {  // another row of the token sees some of the block
        finish(row);
        std::fill(row_scores, row_scores + kBlockTokens, 0.0f);
        continue;
      }
      if (normed) {
        for (int i = 0; i < kBlockTokens; i += kLanes) {
          hn::StoreU(hn::Mul(LoadWide(row_scores + i), LoadWide(norms + i)), F32(), row_scores + i);
        }
      }
      if (++num_ready == kSoftmaxRows) finish(row + 1);
    }
    finish(batch.num_rows);
  }

  // Of plain heads, for products with integers: a value is s n + z, so the weights take s, and the
  // sum of their products with z is added to every element.
  void ScaleWeights(const HeadBatch& batch) const {
    const F32 d;
    const HeadsBySource heads = work_.ValueHeads(batch.begin, batch.end);
    for (int i = 0; i < heads.num_plain; ++i) {
      const float* scales =
          cache_.ValueScales(batch.block_begin, heads.component[i] - work_.first_value());
      const float* zeros = cache_.ZerosOf(scales);
      const int head = heads.plain[i];
      float* weights =
          work_.scores + ((head - batch.begin) * group_rows_ + batch.first_row) * kBlockTokens;
      float* record = work_.part + (head * group_rows_ + batch.first_row) * work_.record_floats;
      for (int row = 0; row < batch.num_rows; ++row) {
        Vec sum = hn::Zero(d);
        for (int t = 0; t < kBlockTokens; t += kLanes) {
          const Vec weight = LoadWide(weights + t);
          sum = hn::MulAdd(weight, LoadWide(zeros + t), sum);
          hn::StoreU(hn::Mul(weight, LoadWide(scales + t)), d, weights + t);
        }
        const Vec shift = hn::Set(d, Sum(sum));
        for (int64_t j = kRecordHeader; j < work_.record_floats; j += kLanes) {
          hn::StoreU(hn::Add(LoadWide(record + j), shift), d, record + j);
        }
        weights += kBlockTokens;
        record += work_.record_floats;
      }
    }
  }

  // 1 / rms of the virtual keys of one head, for the tokens of the block.
  HWY_INLINE void LoadKeyNorms(const HeadBatch& batch, int head, float* norms) const {
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

  void ValuesInPlace(const HeadBatch& batch, const HeadsBySource& heads) const {
    // From the first token's pair on: a partner before the window has weight zero. As far as a page
    // goes at a time.
    TokenRange tokens = {.begin = batch.seen.begin / kRowsTogether<T> * kRowsTogether<T>, .end = 0};
    for (; tokens.begin < batch.seen.end; tokens.begin = tokens.end) {
      const int64_t left = work_.TokensLeftOnPage(batch.block_begin + tokens.begin);
      tokens.end = static_cast<int>(std::min<int64_t>(batch.seen.end, tokens.begin + left));
      for (int i = 0; i < heads.num_plain; ++i) {
        const Components<PlainValueRows<T>> all = cache_.template Values<PlainValueRows<T>>(
            batch.block_begin + tokens.begin, heads.component[i]);
        const auto tile = [&](int n) HWY_ATTR { return FromColumn(all.first, n * kTileColumns); };
        // The next head's slab follows this one.
        AddValues(batch, heads.plain[i], tokens,
                  InCache(tile, head_dim_ / kTileColumns, all.stride, all.component_stride));
      }
    }
  }

  // records[head].values += weights of `tokens` . V, for the rows that see the block.
  template <typename B>
  HWY_INLINE void AddValues(const HeadBatch& batch, int head, TokenRange tokens,
                            const B& tiles) const {
    const int64_t row = head * group_rows_ + batch.first_row;
    const int64_t score_row = (head - batch.begin) * group_rows_ + batch.first_row;
    const int first_word = tokens.begin / kWordElements<T>;
    Multiply<true>(work_.scores + score_row * kBlockTokens + first_word, kBlockTokens,
                   batch.num_rows, tokens.end - tokens.begin, tiles,
                   work_.part + row * work_.record_floats + kRecordHeader, work_.record_floats);
  }

  const AttentionWork& work_;
  const CacheReader<T> cache_;
  const SingleRows<T> single_;
  const int head_dim_;
  const int group_rows_;
};

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#endif
