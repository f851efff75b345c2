// The work on one item of attention. The op defines its queries and results.
#if defined(MEA_KERNELS_CPU_ATTENTION_ITEM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEA_KERNELS_CPU_ATTENTION_ITEM_INL_H_
#undef MEA_KERNELS_CPU_ATTENTION_ITEM_INL_H_
#else
#define MEA_KERNELS_CPU_ATTENTION_ITEM_INL_H_
#endif

#include "kernels/cpu/attention_record-inl.h"
#include "kernels/cpu/attention_work.h"

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {

using cpu::AttentionItem;
using cpu::AttentionWork;
using cpu::RecordFloats;

// body(token of the item, virtual head, row of the head), in the order of the rows.
template <typename Body>
HWY_INLINE void ForRows(const AttentionWork& work, Body body) {
  for (int head = work.item.head_begin; head < work.item.head_end; ++head) {
    for (int token = 0; token < work.num_tokens; ++token) {
      for (int j = 0; j < work.group; ++j) body(token, head, j);
    }
  }
}

// The item's splits in order, each block by block, in the dtype of the cache. The queries are in
// work.queries. Leaves a record of all splits for each row in work.total, unless the item needs
// partial ones. Compiled once per target, in attention_item.cc.
void RunItem(const AttentionWork& work);

// The same with a BF16 cache's products by dot products of BF16 pairs, where this target has them
// and the layout suits them.
void RunItemByDots(const AttentionWork& work);

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#endif
