#include "kernels/cpu/attention_work.h"

#include <algorithm>
#include <numeric>

namespace mea::cpu {
namespace {

// Floats of each part of an item's memory, in their order.
struct Floats {
  int64_t queries, records, scores, composed, key_scales, value_scales, mix, rotated, query_sums;

  Floats(const PagedAttentionArgs& args, const HeadShape& shape, const AttentionItem& item) {
    const KvSpec& spec = args.kv.spec;
    const int64_t heads = item.head_end - item.head_begin;
    const int64_t group_rows = int64_t{item.token_end - item.token_begin} * shape.group;
    queries = RoundUp(heads * group_rows * spec.head_dim, 16);
    records = heads * group_rows * RecordFloats(spec.head_dim);
    const int64_t batch = group_rows == 1 ? kMaxTogether : kMaxComposed;
    scores = std::min<int64_t>(heads, batch) * group_rows * kBlockTokens;
    // A tile of values may be read 16 columns beyond the last head_dim.
    composed = kMaxComposed * (int64_t{kBlockTokens} * spec.head_dim + 16);
    key_scales = kBlockTokens * KvHeadScales(spec.dtype.keys) *
                 heads_read(args.mix.key, spec.key_heads, heads);
    value_scales = kBlockTokens * KvHeadScales(spec.dtype.values) *
                   heads_read(args.mix.value, spec.value_heads, heads);
    mix = RoundUp(heads * std::max(spec.key_heads, spec.value_heads), 16);
    rotated = args.key_bias.empty() ? 0 : RoundUp(group_rows * spec.head_dim, 16);
    query_sums = spec.dtype.keys == DType::kI4 ? RoundUp(heads * group_rows, 16) : 0;
  }
  int64_t total() const {
    return queries + 2 * records + scores + composed + key_scales + value_scales + 2 * mix +
           rotated + query_sums;
  }
  static int64_t heads_read(const TensorView& mix, int64_t components, int64_t heads) {
    return mix.empty() ? heads : components;
  }
};

int64_t FirstPosition(const PagedAttentionArgs& args, const AttentionItem& item) {
  const int32_t end_of_queries = args.q_offsets.as<int32_t>()[item.seq + 1];
  return args.kv_lens.as<int32_t>()[item.seq] - (end_of_queries - item.token_begin);
}

// The row of the column's only element where that is 1, or kMixedHead.
int32_t UnitRow(const TensorView& mix, int64_t column) {
  int32_t unit = kMixedHead;
  for (int64_t c = 0; c < mix.shape[0]; ++c) {
    const float weight = mix.row<float>(c)[column];
    if (weight == 0.0f) continue;
    if (weight != 1.0f || unit != kMixedHead) return kMixedHead;
    unit = static_cast<int32_t>(c);
  }
  return unit;
}

void FindSources(const TensorView& mix, int heads, std::vector<int32_t>& sources) {
  sources.resize(heads);
  for (int i = 0; i < heads; ++i) sources[i] = mix.empty() ? i : UnitRow(mix, i);
}

}  // namespace

void HeadSources::Assign(const PagedAttentionArgs& args, const HeadShape& shape) {
  FindSources(args.mix.key, shape.heads, keys);
  FindSources(args.mix.value, shape.heads, values);
}

HeadShape HeadShapeOf(const PagedAttentionArgs& args) {
  const bool composed = !args.mix.key.empty() || !args.mix.value.empty();
  return {.heads = args.kv_heads,
          .group = static_cast<int>(args.q.shape[1]) / args.kv_heads,
          .unit = composed ? kComposeUnit : 1};
}

HeadShape HeadShapeOf(const InterleavedAttentionArgs& args) {
  return {.heads = args.paged.kv_heads * args.pseudo_heads,
          .group = args.pseudo_heads,
          .pseudo_heads = args.pseudo_heads,
          .together = args.pseudo_heads,
          .unit = std::lcm(args.pseudo_heads, kComposeUnit)};
}

AttentionWork::AttentionWork(const PagedAttentionArgs& a, const HeadShape& s,
                             const AttentionItem& i, float* scratch)
    : args(a),
      shape(s),
      item(i),
      head_dim(a.kv.spec.head_dim),
      group(s.group),
      num_tokens(i.token_end - i.token_begin),
      group_rows(num_tokens * group),
      num_rows(num_heads() * group_rows),
      record_floats(RecordFloats(head_dim)),
      first_position(FirstPosition(a, i)),
      pages(a.page_table.row<int32_t>(i.seq)),
      queries(scratch),
      part(queries + Floats(a, s, i).queries),
      total(part + Floats(a, s, i).records),
      scores(total + Floats(a, s, i).records),
      composed(scores + Floats(a, s, i).scores),
      key_scales(composed + Floats(a, s, i).composed),
      value_scales(key_scales + Floats(a, s, i).key_scales),
      key_mix(value_scales + Floats(a, s, i).value_scales),
      value_mix(key_mix + Floats(a, s, i).mix),
      rotated(value_mix + Floats(a, s, i).mix),
      query_sums(rotated + Floats(a, s, i).rotated) {}

int64_t AttentionWork::ScratchFloats(const PagedAttentionArgs& args, const HeadShape& shape,
                                     const AttentionItem& item) {
  return Floats(args, shape, item).total();
}

HeadsBySource AttentionWork::BySource(const std::vector<int32_t>& sources, int begin,
                                      int end) const {
  const int32_t* source = sources.data() + item.head_begin;
  HeadsBySource heads;
  heads.first_mix = static_cast<int>(std::count(source, source + begin, kMixedHead));
  for (int head = begin; head < end; ++head) {
    if (source[head] == kMixedHead) {
      heads.mixed[heads.num_mixed++] = head;
    } else {
      heads.component[heads.num_plain] = source[head];
      heads.plain[heads.num_plain++] = head;
    }
  }
  return heads;
}

TokenRange AttentionWork::VisibleFrom(int token, int64_t block_begin, int end_lag,
                                      int begin_lag) const {
  const int64_t last = first_position + token + 1 - block_begin;
  const int64_t end = last - end_lag;
  const int64_t begin = args.window > 0 ? last - begin_lag - args.window : 0;
  return {.begin = static_cast<int>(std::clamp<int64_t>(begin, 0, kBlockTokens)),
          .end = static_cast<int>(std::clamp<int64_t>(end, 0, kBlockTokens))};
}

}  // namespace mea::cpu
