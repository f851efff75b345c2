// The scores of an item's rows over one block, for keys of one format.
#if defined(MEA_KERNELS_CPU_ATTENTION_SCORES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEA_KERNELS_CPU_ATTENTION_SCORES_INL_H_
#undef MEA_KERNELS_CPU_ATTENTION_SCORES_INL_H_
#else
#define MEA_KERNELS_CPU_ATTENTION_SCORES_INL_H_
#endif

#include "kernels/cpu/attention_compose-inl.h"
#include "kernels/cpu/attention_single-inl.h"
#include "kernels/cpu/key_bias-inl.h"
#include "kernels/cpu/tile-inl.h"
#include "kernels/int4_heads.h"

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {

using cpu::AttentionWork;
using cpu::HeadBatch;
using cpu::HeadsBySource;
using cpu::kBlockTokens;
using cpu::kTileTokens;
using cpu::TokenRange;

// What depends on the format of keys. Keys and values have each their own, so each side is compiled
// once for every format and not for every pair.
class KeySide {
 public:
  virtual ~KeySide() = default;
  // Makes the item's queries operands of the products, in place.
  virtual void PrepareQueries() const = 0;
  // Whether all heads are multiplied where they lie, by any number of rows.
  virtual bool MultipliesInPlace() const = 0;
  // The same for a row of the mix.
  virtual void Round(float* row, int count) const = 0;
  // Makes a block readable.
  virtual void Open(int64_t block_begin, TokenRange seen) const = 0;
  // work.scores[head][row][token of the block] = q . K_head
  virtual void Scores(const HeadBatch& batch) const = 0;
};

template <typename T>
class KeysOf : public KeySide {
 public:
  explicit KeysOf(const AttentionWork& work)
      : work_(work),
        cache_(work),
        single_(work, cache_),
        bias_(work),
        head_dim_(work.head_dim),
        group_rows_(work.group_rows) {}

  void PrepareQueries() const override {
    float* q = work_.queries;
    for (int row = 0; row < work_.num_rows; ++row, q += head_dim_) {
      if constexpr (kIsInt4<T>) {
        RotateHadamard(q, head_dim_);
        work_.query_sums[row] = SumOf(q);
      }
      RoundOperand<T>(q, head_dim_);
    }
  }
  bool MultipliesInPlace() const override { return kMultipliesInPlace<T> && !work_.mixes_keys(); }
  void Round(float* row, int count) const override { RoundOperand<T>(row, count); }
  void Open(int64_t block_begin, TokenRange seen) const override {
    cache_.OpenKeys(block_begin, seen);
  }
  void Scores(const HeadBatch& batch) const override {
    if (group_rows_ == 1) {
      single_.Scores(batch.block_begin, batch.seen, batch.begin, batch.end);
    } else {
      ScoresOfGroups(batch);
    }
    if constexpr (kIsInt4<T>) ScaleScores(batch);
    if (!work_.args.key_bias.empty()) AddBiasScores(batch);
  }

 private:
  void ScoresOfGroups(const HeadBatch& batch) const {
    HeadsBySource heads = work_.KeyHeads(batch.begin, batch.end);
    const int first_tile = TileFloor(batch.seen.begin);
    const int num_tiles = NumTiles(batch);
    const auto multiply = [&](int head, auto tiles) HWY_ATTR {
      const int64_t row = head * group_rows_ + batch.first_row;
      const int64_t score_row = (head - batch.begin) * group_rows_ + batch.first_row;
      Multiply<false>(work_.queries + row * head_dim_, head_dim_, batch.num_rows, head_dim_, tiles,
                      work_.scores + score_row * kBlockTokens + first_tile, kBlockTokens);
    };
    if (ReadsInPlace<T>(group_rows_)) {
      for (int i = 0; i < heads.num_plain; ++i) {
        const auto tile = [&, this](int n) HWY_ATTR {
          return cache_.KeyTile(batch.block_begin + first_tile + n * kTileTokens,
                                heads.component[i]);
        };
        // The next head's slab follows this one.
        multiply(heads.plain[i], InCache(tile, num_tiles, kTileTokens * kColumnElements<T>,
                                         cache_.key_component_stride()));
      }
      heads.num_plain = 0;
    }
    cache_.ComposeKeys(batch.block_begin, batch.seen, heads);
    const auto* keys = cache_.composed() + first_tile * head_dim_;
    ForComposed(heads, [&, this](int head) HWY_ATTR {
      const auto tile = [=, this](int i) HWY_ATTR { return keys + i * kTileTokens * head_dim_; };
      multiply(head, InScratch(tile, num_tiles, kTileTokens * kRowsTogether<ComposedElement<T>>));
      keys += cache_.key_stride();
    });
  }

  // Of plain heads, so far products with integers: a key is s n + z, so a score s (q . n) + z
  // sum(q).
  void ScaleScores(const HeadBatch& batch) const {
    const F32 d;
    const HeadsBySource heads = work_.KeyHeads(batch.begin, batch.end);
    const int first = TileFloor(batch.seen.begin);
    for (int i = 0; i < heads.num_plain; ++i) {
      const float* scales =
          cache_.KeyScales(batch.block_begin, heads.component[i] - work_.first_key());
      const float* zeros = cache_.ZerosOf(scales);
      const int head = heads.plain[i];
      float* scores =
          work_.scores + ((head - batch.begin) * group_rows_ + batch.first_row) * kBlockTokens;
      const float* sums = work_.query_sums + head * group_rows_ + batch.first_row;
      for (int row = 0; row < batch.num_rows; ++row, scores += kBlockTokens) {
        const Vec sum = hn::Set(d, sums[row]);
        for (int t = first; t < first + NumTiles(batch) * kTileTokens; t += kLanes) {
          const Vec shift = hn::Mul(LoadWide(zeros + t), sum);
          hn::StoreU(hn::MulAdd(LoadWide(scores + t), LoadWide(scales + t), shift), d, scores + t);
        }
      }
    }
  }

  HWY_INLINE float SumOf(const float* q) const {
    Vec sum = hn::Zero(F32());
    int i = 0;
    for (; i + kLanes <= head_dim_; i += kLanes) sum = hn::Add(sum, LoadWide(q + i));
    if (i < head_dim_) sum = hn::Add(sum, LoadTail(q + i, head_dim_ - i));
    return Sum(sum);
  }

  void AddBiasScores(const HeadBatch& batch) const {
    for (int head = batch.begin; head < batch.end; ++head) {
      const int64_t score_row = (head - batch.begin) * group_rows_ + batch.first_row;
      bias_.Add(batch.block_begin, head, batch.first_row, batch.num_rows,
                TileFloor(batch.seen.begin), NumTiles(batch),
                work_.scores + score_row * kBlockTokens);
    }
  }

  static int NumTiles(const HeadBatch& batch) {
    return (batch.seen.end - TileFloor(batch.seen.begin) + kTileTokens - 1) / kTileTokens;
  }

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
