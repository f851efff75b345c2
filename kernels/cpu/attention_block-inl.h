// Attention of an item's rows over one block of 64 positions: scores, softmax, weighted values.
#if defined(MEA_KERNELS_CPU_ATTENTION_BLOCK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEA_KERNELS_CPU_ATTENTION_BLOCK_INL_H_
#undef MEA_KERNELS_CPU_ATTENTION_BLOCK_INL_H_
#else
#define MEA_KERNELS_CPU_ATTENTION_BLOCK_INL_H_
#endif

#include <algorithm>

#include "kernels/cpu/attention_scores-inl.h"
#include "kernels/cpu/attention_values-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {

using cpu::AttentionWork;
using cpu::HeadBatch;
using cpu::kMaxComposed;
using cpu::kMaxTogether;
using cpu::TokenRange;

class BlockAttention {
 public:
  BlockAttention(const AttentionWork& work, const KeySide& keys, const ValueSide& values)
      : work_(work),
        keys_(keys),
        values_(values),
        most_heads_(ComposesInRegisters(work) ? kMaxTogether : kMaxComposed) {}

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
    keys_.Open(block_begin, seen);
    values_.Open(block_begin, seen);
    for (int begin = 0; begin < work_.num_heads(); begin += most_heads_) {
      const HeadBatch batch = {.block_begin = block_begin,
                               .seen = seen,
                               .begin = begin,
                               .end = std::min(begin + most_heads_, work_.num_heads()),
                               .first_token = first,
                               .last_token = last,
                               .first_row = first * work_.group,
                               .num_rows = (last - first) * work_.group};
      keys_.Scores(batch);
      values_.Softmax(batch);
      values_.WeightedValues(batch);
    }
  }

 private:
  static bool ComposesInRegisters(const AttentionWork& work) {
    return work.head_dim % kTileColumns == 0 && work.group_rows == 1;
  }

  const AttentionWork& work_;
  const KeySide& keys_;
  const ValueSide& values_;
  const int most_heads_;
};

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#endif
