#include "kernels/cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which compiles this file once per target.
#include <hwy/highway.h>

#include "kernels/cpu/simd-inl.h"
#include "kernels/cpu/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {

using cpu::AttentionItem;
using cpu::kBlockTokens;
using cpu::kRecordHeader;
using cpu::kSplitTokens;
using cpu::kTileTokens;
using cpu::RecordFloats;
using cpu::RoundUp;

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
constexpr int kBlockTiles = kBlockTokens / kTileTokens;
// Virtual heads whose keys or values are composed together, before their scores are done: a
// multiple of what the register blocks take.
constexpr int kMaxComposed = 2 * cpu::kComposeUnit;

HWY_INLINE float ScalarExp(float x) { return hn::GetLane(Exp(hn::Set(F32(), x))); }

// values *= factor
HWY_INLINE void ScaleRecord(float* record, int64_t record_floats, float factor) {
  if (factor == 1.0f) return;
  const Vec v = hn::Set(F32(), factor);
  for (int64_t i = kRecordHeader; i < record_floats; i += kLanes) {
    hn::StoreU(hn::Mul(LoadWide(record + i), v), F32(), record + i);
  }
}

HWY_INLINE void ClearRecord(float* record, int64_t record_floats) {
  std::fill(record, record + record_floats, 0.0f);
  record[0] = kMinusInfinity;
}

// Adds a split's record to the running total: the one formula of both schedules.
HWY_INLINE void MergeRecord(const float* part, int64_t record_floats, float* total) {
  if (part[1] == 0.0f) return;  // nothing visible in this split
  const F32 d;
  const float max = std::max(total[0], part[0]);
  const float old_factor = ScalarExp(total[0] - max);
  const float new_factor = ScalarExp(part[0] - max);
  total[0] = max;
  total[1] = total[1] * old_factor + part[1] * new_factor;
  for (int64_t i = kRecordHeader; i < record_floats; i += kLanes) {
    const Vec scaled = hn::Mul(LoadWide(total + i), hn::Set(d, old_factor));
    hn::StoreU(hn::MulAdd(LoadWide(part + i), hn::Set(d, new_factor), scaled), d, total + i);
  }
}

// out = values / sum, and the head norm where the op has one.
void FinishRow(const PagedAttentionArgs& args, int64_t token, int64_t head, const float* record) {
  const F32 d;
  const int64_t head_dim = args.kv.spec.head_dim;
  const float* values = record + kRecordHeader;
  float* out = args.out.row<float>(token) + head * args.out.stride[1];
  const Vec scale = hn::Set(d, 1.0f / record[1]);
  int64_t i = 0;
  Vec squares = hn::Zero(d);
  for (; i + kLanes <= head_dim; i += kLanes) {
    const Vec v = hn::Mul(LoadWide(values + i), scale);
    squares = hn::MulAdd(v, v, squares);
    hn::StoreU(v, d, out + i);
  }
  if (i < head_dim) {
    const Vec v = hn::Mul(LoadTail(values + i, head_dim - i), scale);
    squares = hn::MulAdd(v, v, squares);
    StoreTail(v, out + i, head_dim - i);
  }
  if (args.head_norm_gain.empty()) return;
  const float mean_square = Sum(squares) / static_cast<float>(head_dim);
  const float inverse_rms = 1.0f / std::sqrt(mean_square + args.head_norm_eps);
  const float* gain = args.head_norm_gain.row<float>(head);
  for (int64_t j = 0; j < head_dim; ++j) out[j] = gain[j] * (out[j] * inverse_rms);
}

// Memory of one item, carved from the thread's scratch in this order.
struct Scratch {
  int64_t query_floats, record_floats, score_floats, composed_floats, mix_floats;

  Scratch(const PagedAttentionArgs& args, const AttentionItem& item) {
    const KvSpec& spec = args.kv.spec;
    const int64_t heads = item.head_end - item.head_begin;
    const int64_t group_rows =
        (item.token_end - item.token_begin) * (args.q.shape[1] / args.kv_heads);
    query_floats = RoundUp(heads * group_rows * spec.head_dim, 16);
    record_floats = heads * group_rows * RecordFloats(spec.head_dim);
    score_floats = std::min<int64_t>(heads, kMaxComposed) * group_rows * kBlockTokens;
    // A tile of values may be read 16 columns beyond the last head_dim.
    composed_floats = kMaxComposed * (int64_t{kBlockTokens} * spec.head_dim + 16);
    mix_floats = RoundUp(heads * std::max(spec.key_heads, spec.value_heads), 16);
  }
  int64_t total() const {
    return query_floats + 2 * record_floats + score_floats + composed_floats + 2 * mix_floats;
  }
};

// Runs one item. Rows are ordered [virtual head][token][query head of the group].
template <typename T>
class Worker {
 public:
  Worker(const PagedAttentionArgs& args, const AttentionItem& item, float* scratch)
      : args_(args),
        item_(item),
        head_dim_(args.kv.spec.head_dim),
        group_(static_cast<int>(args.q.shape[1]) / args.kv_heads),
        num_tokens_(item.token_end - item.token_begin),
        group_rows_(num_tokens_ * group_),
        num_rows_((item.head_end - item.head_begin) * group_rows_),
        record_floats_(RecordFloats(head_dim_)) {
    const int32_t* q_offsets = args.q_offsets.as<int32_t>();
    const int32_t kv_len = args.kv_lens.as<int32_t>()[item.seq];
    first_position_ = kv_len - (q_offsets[item.seq + 1] - item.token_begin);
    pages_ = args.page_table.row<int32_t>(item.seq);
    const Scratch sizes(args, item);
    queries_ = scratch;
    part_ = queries_ + sizes.query_floats;
    total_ = part_ + sizes.record_floats;
    scores_ = total_ + sizes.record_floats;
    composed_ = scores_ + sizes.score_floats;
    key_mix_ = composed_ + sizes.composed_floats;
    value_mix_ = key_mix_ + sizes.mix_floats;
  }

  void Run() {
    LoadQueries();
    LoadMix(args_.mix.key, args_.kv.spec.key_heads, key_mix_);
    LoadMix(args_.mix.value, args_.kv.spec.value_heads, value_mix_);
    ForRecords(total_, [&](float* record) HWY_ATTR { ClearRecord(record, record_floats_); });
    for (int split = item_.split_begin; split < item_.split_end; ++split) {
      ForRecords(part_, [&](float* record) HWY_ATTR { ClearRecord(record, record_floats_); });
      const int first_block = split * (kSplitTokens / kBlockTokens);
      for (int i = 0; i < kSplitTokens / kBlockTokens; ++i) {
        Block(int64_t{first_block + i} * kBlockTokens);
      }
      if (item_.partials != nullptr) {
        KeepPartials();
      } else {
        for (int row = 0; row < num_rows_; ++row) {
          MergeRecord(part_ + row * record_floats_, record_floats_, total_ + row * record_floats_);
        }
      }
    }
    if (item_.partials == nullptr) Finish();
  }

 private:
  // The tokens a block of the cache and a row have in common, relative to the block.
  struct Range {
    int begin;
    int end;
  };

  template <typename Body>
  HWY_INLINE void ForRecords(float* records, Body body) {
    for (int row = 0; row < num_rows_; ++row) body(records + row * record_floats_);
  }

  // Copies the queries of the item, scaled, into [num_rows][head_dim].
  void LoadQueries() {
    const float scale = static_cast<float>(args_.scale);
    float* target = queries_;
    for (int head = item_.head_begin; head < item_.head_end; ++head) {
      for (int token = 0; token < num_tokens_; ++token) {
        for (int j = 0; j < group_; ++j, target += head_dim_) {
          const float* q = args_.q.row<float>(item_.token_begin + token) +
                           (head * group_ + j) * args_.q.stride[1];
          for (int i = 0; i < head_dim_; ++i) target[i] = q[i] * scale;
        }
      }
    }
  }

  // W[component, virtual head], turned into one row of components for each head of the item.
  void LoadMix(const TensorView& mix, int components, float* target) {
    if (mix.empty()) return;
    for (int head = item_.head_begin; head < item_.head_end; ++head) {
      for (int c = 0; c < components; ++c) *target++ = mix.row<float>(c)[head];
    }
  }

  void KeepPartials() {
    const float* record = part_;
    for (int head = item_.head_begin; head < item_.head_end; ++head) {
      for (int token = 0; token < num_tokens_; ++token) {
        for (int j = 0; j < group_; ++j, record += record_floats_) {
          const int64_t index = token * item_.token_stride + head * group_ + j;
          std::copy(record, record + record_floats_, item_.partials + index * record_floats_);
        }
      }
    }
  }

  void Finish() {
    const float* record = total_;
    for (int head = item_.head_begin; head < item_.head_end; ++head) {
      for (int token = 0; token < num_tokens_; ++token) {
        for (int j = 0; j < group_; ++j, record += record_floats_) {
          FinishRow(args_, item_.token_begin + token, head * group_ + j, record);
        }
      }
    }
  }

  Range Visible(int token, int64_t block_begin) const {
    const int64_t end = first_position_ + token + 1 - block_begin;
    const int64_t begin = args_.window > 0 ? end - args_.window : 0;
    return {.begin = static_cast<int>(std::clamp<int64_t>(begin, 0, kBlockTokens)),
            .end = static_cast<int>(std::clamp<int64_t>(end, 0, kBlockTokens))};
  }

  static int TileFloor(int token) { return token / kTileTokens * kTileTokens; }

  // Whether a slab is better multiplied where it lies: always when it needs no widening, else with
  // so few rows that widening in registers happens once.
  bool reads_in_place() const { return std::is_same_v<T, float> || group_rows_ <= kMaxTileRows; }

  // Attention of all rows over the 64 positions from block_begin on, added to part_.
  void Block(int64_t block_begin) {
    int first = 0;
    int last = num_tokens_;
    Range first_range, last_range;
    const auto empty = [](Range range) HWY_ATTR { return range.begin >= range.end; };
    while (first < last && empty(first_range = Visible(first, block_begin))) ++first;
    while (first < last && empty(last_range = Visible(last - 1, block_begin))) --last;
    if (first == last) return;
    // Earlier rows see the earliest tokens, later rows the latest.
    const Range seen = {.begin = first_range.begin, .end = last_range.end};

    const int num_heads = item_.head_end - item_.head_begin;
    for (int begin = 0; begin < num_heads; begin += kMaxComposed) {
      const int end = std::min(begin + kMaxComposed, num_heads);
      const int rows = (last - first) * group_;
      const int first_row = first * group_;
      Scores(block_begin, seen, begin, end, first_row, rows);
      for (int head = begin; head < end; ++head) {
        Softmax(block_begin, seen, head, (head - begin) * group_rows_, first, last);
      }
      WeightedValues(block_begin, seen, begin, end, first_row, rows);
    }
  }

  // Component `head` of the 16 tokens from `position` on.
  HWY_INLINE const T* KeyTile(int64_t position, int head) const {
    const TensorView& keys = args_.kv.keys;
    const int64_t page = pages_[position / args_.kv.page_size];
    return keys.as<T>() + page * keys.stride[0] + head * keys.stride[1] +
           position % args_.kv.page_size * head_dim_;
  }
  // Component `head` of the value at `position`; those behind it in the page follow.
  HWY_INLINE const T* Value(int64_t position, int head) const {
    const TensorView& values = args_.kv.values;
    const int64_t page = pages_[position / args_.kv.page_size];
    return values.as<T>() + page * values.stride[0] + head * values.stride[1] +
           position % args_.kv.page_size * head_dim_;
  }

  // All components of the keys, or values, of the 16 tokens from `position` on.
  HWY_INLINE Components<T> KeyComponents(int64_t position, int component) const {
    return {.data = KeyTile(position, component),
            .component_stride = args_.kv.keys.stride[1],
            .stride = kTileTokens * kRowsTogether<T>,
            .count = args_.kv.spec.key_heads,
            .ahead = kTileTokens * head_dim_};
  }
  HWY_INLINE Components<T> ValueComponents(int64_t position, int component) const {
    return {.data = Value(position, component),
            .component_stride = args_.kv.values.stride[1],
            .stride = int64_t{head_dim_} * kRowsTogether<T>,
            .count = args_.kv.spec.value_heads,
            .ahead = kTileTokens * head_dim_};
  }

  // Composes or widens the block's visible tiles for heads [begin, end) of the item into composed_,
  // `stride` floats for each head; find(position, component) gives the Components there, of `rows`
  // rows of `columns`.
  template <typename Find>
  HWY_INLINE void ComposeBlock(int64_t block_begin, Range seen, int begin, int end, bool mixed,
                               const float* mix, int rows, int columns, int64_t stride, Find find) {
    for (int t = TileFloor(seen.begin); t < seen.end; t += kTileTokens) {
      float* target = composed_ + t * head_dim_;
      if (mixed) {
        const auto all = find(block_begin + t, 0);
        ComposeTile(all, end - begin, rows, columns, mix + begin * all.count, target, stride);
        continue;
      }
      for (int head = begin; head < end; ++head) {
        auto one = find(block_begin + t, item_.head_begin + head);
        one.count = 1;
        const float weight = 1.0f;
        ComposeTile<1>(one, rows, columns, &weight, target + (head - begin) * stride, stride);
      }
    }
  }

  // scores[head][row][token of the block] = q . K_head
  void Scores(int64_t block_begin, Range seen, int begin, int end, int first_row, int rows) {
    const bool mixed = !args_.mix.key.empty();
    const int first_tile = TileFloor(seen.begin);
    const int num_tiles = (seen.end - first_tile + kTileTokens - 1) / kTileTokens;
    if (mixed && group_rows_ == 1) {
      for (int t = first_tile; t < seen.end; t += kTileTokens) {
        const Components<T> keys = KeyComponents(block_begin + t, 0);
        MultiplyComposed<false>(queries_ + begin * head_dim_, head_dim_, end - begin, head_dim_,
                                keys, key_mix_ + begin * keys.count, scores_ + t, kBlockTokens);
      }
      return;
    }
    const auto multiply = [&](int head, auto tiles) HWY_ATTR {
      const int64_t row = head * group_rows_ + first_row;
      const int64_t score_row = (head - begin) * group_rows_ + first_row;
      Multiply<false>(queries_ + row * head_dim_, head_dim_, rows, head_dim_, tiles,
                      scores_ + score_row * kBlockTokens + first_tile, kBlockTokens);
    };
    if (!mixed && reads_in_place()) {
      for (int head = begin; head < end; ++head) {
        const auto tile = [&, this](int i) HWY_ATTR {
          return KeyTile(block_begin + first_tile + i * kTileTokens, item_.head_begin + head);
        };
        // The next head's slab follows this one.
        multiply(head,
                 InCache(tile, num_tiles, kTileTokens * kRowsTogether<T>, args_.kv.keys.stride[1]));
      }
      return;
    }
    const int64_t stride = int64_t{kBlockTokens} * head_dim_;
    ComposeBlock(block_begin, seen, begin, end, mixed, key_mix_, head_dim_, kTileTokens, stride,
                 [this](int64_t position, int component)
                     HWY_ATTR { return KeyComponents(position, component); });
    for (int head = begin; head < end; ++head) {
      const float* keys = composed_ + (head - begin) * stride + first_tile * head_dim_;
      const auto tile = [=, this](int i) HWY_ATTR { return keys + i * kTileTokens * head_dim_; };
      multiply(head, InScratch(tile, num_tiles, kTileTokens));
    }
  }

  // 1 / rms of the composite keys of one head, for the tokens of the block.
  HWY_INLINE void LoadKeyNorms(int64_t block_begin, Range seen, int head, float* norms) const {
    const TensorView& key_norms = args_.kv.key_norms;
    const int page_size = args_.kv.page_size;
    for (int t = seen.begin / kTileTokens * kTileTokens; t < seen.end; t += kTileTokens) {
      const int64_t position = block_begin + t;
      const float* source = key_norms.row<float>(pages_[position / page_size]) +
                            (item_.head_begin + head) * key_norms.stride[1] + position % page_size;
      std::copy(source, source + kTileTokens, norms + t);
    }
  }

  // Turns scores into exp(score - max), zero where a row sees nothing, and rescales the records.
  void Softmax(int64_t block_begin, Range seen, int head, int score_row, int first, int last) {
    HWY_ALIGN float norms[kBlockTokens] = {};
    const bool normed = args_.kv.spec.key_norm_heads > 0;
    if (normed) LoadKeyNorms(block_begin, seen, head, norms);
    for (int token = first; token < last; ++token) {
      const Range visible = Visible(token, block_begin);
      for (int j = 0; j < group_; ++j) {
        const int row = token * group_ + j;
        float* scores = scores_ + (score_row + row) * kBlockTokens;
        if (normed) {
          for (int i = 0; i < kBlockTokens; i += kLanes) {
            hn::StoreU(hn::Mul(LoadWide(scores + i), LoadWide(norms + i)), F32(), scores + i);
          }
        }
        SoftmaxRow(scores, visible, part_ + (head * group_rows_ + row) * record_floats_);
      }
    }
  }

  HWY_INLINE void SoftmaxRow(float* scores, Range visible, float* record) {
    const F32 d;
    // What the row does not see may be NaN: tokens not written yet share its tile.
    std::fill(scores, scores + visible.begin, kMinusInfinity);
    std::fill(scores + visible.end, scores + kBlockTokens, kMinusInfinity);
    Vec max_vec = LoadWide(scores);
    for (int i = kLanes; i < kBlockTokens; i += kLanes) {
      max_vec = hn::Max(max_vec, LoadWide(scores + i));
    }
    const float max = std::max(record[0], Max(max_vec));
    const float factor = ScalarExp(record[0] - max);
    Vec sum = hn::Zero(d);
    for (int i = 0; i < kBlockTokens; i += kLanes) {
      const Vec weight = Exp(hn::Sub(LoadWide(scores + i), hn::Set(d, max)));
      sum = hn::Add(sum, weight);
      hn::StoreU(weight, d, scores + i);
    }
    record[0] = max;
    record[1] = record[1] * factor + Sum(sum);
    ScaleRecord(record, record_floats_, factor);
  }

  // records.values += weights . V_head
  void WeightedValues(int64_t block_begin, Range seen, int begin, int end, int first_row,
                      int rows) {
    const bool mixed = !args_.mix.value.empty();
    // In place a tile must not reach beyond head_dim: there may be no memory behind the last slab.
    if (head_dim_ % kTileColumns == 0 && (mixed ? group_rows_ == 1 : reads_in_place())) {
      ValuesInPlace(block_begin, seen, begin, end, first_row, rows, mixed);
      return;
    }
    const int64_t stride = int64_t{kBlockTokens} * head_dim_ + kTileColumns;
    ComposeValues(block_begin, seen, begin, end, mixed, stride);
    const int num_tiles = static_cast<int>(RoundUp(head_dim_, kTileColumns)) / kTileColumns;
    for (int head = begin; head < end; ++head) {
      const float* values = composed_ + (head - begin) * stride + seen.begin * head_dim_;
      const auto tile = [=](int i) HWY_ATTR { return values + i * kTileColumns; };
      AddValues(head, head - begin, first_row, rows, seen, InScratch(tile, num_tiles, head_dim_));
    }
  }

  void ValuesInPlace(int64_t block_begin, Range seen, int begin, int end, int first_row, int rows,
                     bool mixed) {
    constexpr int kTileElements = kTileColumns * kRowsTogether<T>;
    const int num_tiles = head_dim_ / kTileColumns;
    // From the first token's pair on: a partner behind the window has weight zero.
    int t = seen.begin / kRowsTogether<T> * kRowsTogether<T>;
    while (t < seen.end) {
      const Range tokens = {.begin = t, .end = std::min(seen.end, TileFloor(t) + kTileTokens)};
      const Components<T> all = ValueComponents(block_begin + t, 0);
      for (int head = begin; head < end && !mixed; ++head) {
        const T* values = all.data + (item_.head_begin + head) * all.component_stride;
        const auto tile = [=](int i) HWY_ATTR { return values + i * kTileElements; };
        // The next head's slab follows this one.
        AddValues(head, head - begin, first_row, rows, tokens,
                  InCache(tile, num_tiles, all.stride, all.component_stride));
      }
      for (int i = 0; i < num_tiles && mixed; ++i) {
        Components<T> columns = all;
        columns.data += i * kTileElements;
        MultiplyComposed<true>(scores_ + t, kBlockTokens, end - begin, tokens.end - t, columns,
                               value_mix_ + begin * all.count,
                               part_ + begin * record_floats_ + kRecordHeader + i * kTileColumns,
                               record_floats_);
      }
      t = tokens.end;
    }
  }

  void ComposeValues(int64_t block_begin, Range seen, int begin, int end, bool mixed,
                     int64_t stride) {
    const auto find = [this](int64_t position, int component)
                          HWY_ATTR { return ValueComponents(position, component); };
    if (head_dim_ % kTileColumns == 0) {
      ComposeBlock(block_begin, seen, begin, end, mixed, value_mix_, kTileTokens, head_dim_, stride,
                   find);
      return;
    }
    // Unpaired rows whose length no vector divides: the 16 tokens are one long row.
    const auto flat = [&find](int64_t position, int component) HWY_ATTR {
      const Components<T> b = find(position, component);
      return Components<Unpaired<T>>{.data = reinterpret_cast<const Unpaired<T>*>(b.data),
                                     .component_stride = b.component_stride,
                                     .stride = 0,
                                     .count = b.count,
                                     .ahead = b.ahead};
    };
    ComposeBlock(block_begin, seen, begin, end, mixed, value_mix_, 1, kTileTokens * head_dim_,
                 stride, flat);
  }

  // records[head].values += weights of `tokens` . V, for the rows that see the block.
  template <typename B>
  HWY_INLINE void AddValues(int head, int score_head, int first_row, int rows, Range tokens,
                            const B& tiles) {
    const int64_t row = head * group_rows_ + first_row;
    const int64_t score_row = score_head * group_rows_ + first_row;
    Multiply<true>(scores_ + score_row * kBlockTokens + tokens.begin, kBlockTokens, rows,
                   tokens.end - tokens.begin, tiles, part_ + row * record_floats_ + kRecordHeader,
                   record_floats_);
  }

  const PagedAttentionArgs& args_;
  const AttentionItem& item_;
  const int head_dim_;
  const int group_;       // query heads of one virtual head
  const int num_tokens_;  // query tokens
  const int group_rows_;  // rows of one virtual head
  const int num_rows_;
  const int64_t record_floats_;
  int64_t first_position_;  // of the item's first token
  const int32_t* pages_;
  float* queries_;    // [num_rows][head_dim]
  float* part_;       // [num_rows] records of the split at work
  float* total_;      // [num_rows] records of the splits before it
  float* scores_;     // [heads of a batch][group_rows][kBlockTokens]
  float* composed_;   // [heads of a batch] keys or values of the block
  float* key_mix_;    // [heads][key_heads]
  float* value_mix_;  // [heads][value_heads]
};

int64_t AttentionScratchFloats(const PagedAttentionArgs& args, const AttentionItem& item) {
  return Scratch(args, item).total();
}

void RunAttention(const PagedAttentionArgs& args, const AttentionItem& item, float* scratch) {
  switch (args.kv.spec.dtype) {
    case DType::kF32:
      return Worker<float>(args, item, scratch).Run();
    case DType::kBf16:
      return Worker<Bf16>(args, item, scratch).Run();
    default:
      MEA_CHECK(false);
  }
}

// `scratch` holds one record.
void MergeSplits(const PagedAttentionArgs& args, const cpu::MergeItem& item, float* scratch) {
  const int64_t record_floats = RecordFloats(args.kv.spec.head_dim);
  for (int64_t head = 0; head < args.q.shape[1]; ++head) {
    ClearRecord(scratch, record_floats);
    for (int64_t split = 0; split < item.num_splits; ++split) {
      MergeRecord(item.partials + (split * item.split_stride + head) * record_floats, record_floats,
                  scratch);
    }
    FinishRow(args, item.token, head, scratch);
  }
}

cpu::AttentionKernels ChooseAttention() {
  return {.scratch_floats = AttentionScratchFloats, .run = RunAttention, .merge = MergeSplits};
}

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mea {
HWY_EXPORT(ChooseAttention);

namespace cpu {
AttentionKernels GetAttentionKernels() { return HWY_DYNAMIC_DISPATCH(ChooseAttention)(); }
}  // namespace cpu
}  // namespace mea
#endif
