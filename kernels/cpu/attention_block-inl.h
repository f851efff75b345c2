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
        cuts_diagonal_(keys.MultipliesInPlace() && values.MultipliesInPlace()),
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
    const TokenRange seen = SeenBy(first, last, block_begin);
    keys_.Open(block_begin, seen);
    values_.Open(block_begin, seen);
    for (int token = first; token < last; token = first) {
      first = EndOfAlike(token, last, block_begin);
      RunTokens(block_begin, token, first);
    }
  }

 private:
  // Earlier tokens see the earliest positions, later ones the latest.
  TokenRange SeenBy(int first, int last, int64_t block_begin) const {
    return {.begin = work_.Visible(first, block_begin).begin,
            .end = work_.Visible(last - 1, block_begin).end};
  }

  // Of the tokens from `token` on, those that see the same tiles of the block: the others would
  // multiply what they do not see. Heads that are composed are composed for all tokens at once.
  int EndOfAlike(int token, int last, int64_t block_begin) const {
    const int end = work_.Visible(token, block_begin).end;
    if (!cuts_diagonal_ || end == kBlockTokens) return last;
    return std::min(last, token + 1 + (kTileTokens - end % kTileTokens) % kTileTokens);
  }

  void RunTokens(int64_t block_begin, int first, int last) const {
    const TokenRange seen = SeenBy(first, last, block_begin);
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

  static bool ComposesInRegisters(const AttentionWork& work) {
    return work.head_dim % kTileColumns == 0 && work.group_rows == 1;
  }

  const AttentionWork& work_;
  const KeySide& keys_;
  const ValueSide& values_;
  const bool cuts_diagonal_;
  const int most_heads_;
};

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#endif
