#include "kernels/cpu/attention.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which compiles this file once per target.
#include <hwy/highway.h>

#include "kernels/cpu/attention_item-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {

// Copies the queries of the item, scaled, into [num_rows][head_dim].
void LoadQueries(const AttentionWork& work) {
  const PagedAttentionArgs& args = work.args;
  const float scale = static_cast<float>(args.scale);
  float* target = work.queries;
  ForRows(work, [&](int token, int head, int j) HWY_ATTR {
    const float* q = args.q.row<float>(work.item.token_begin + token) +
                     (head * work.group + j) * args.q.stride[1];
    for (int i = 0; i < work.head_dim; ++i) target[i] = q[i] * scale;
    target += work.head_dim;
  });
}

template <void (*kRunItem)(const AttentionWork&)>
void RunAttention(const PagedAttentionArgs& args, const AttentionItem& item, float* scratch) {
  const AttentionWork work(args, cpu::HeadShapeOf(args), item, scratch);
  LoadQueries(work);
  kRunItem(work);
  if (item.partials != nullptr) return;
  float* record = work.total;
  ForRows(work, [&](int token, int head, int j) HWY_ATTR {
    FinishRow(args, item.token_begin + token, head * work.group + j, record);
    record += work.record_floats;
  });
}

int64_t AttentionScratch(const PagedAttentionArgs& args, const AttentionItem& item) {
  return AttentionWork::ScratchFloats(args, cpu::HeadShapeOf(args), item);
}

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

cpu::AttentionKernels ChooseAttention(bool by_dots) {
  return {.scratch_floats = AttentionScratch,
          .run = by_dots ? RunAttention<RunItemByDots> : RunAttention<RunItem>,
          .merge = MergeSplits};
}

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mea {
HWY_EXPORT(ChooseAttention);

namespace cpu {
AttentionKernels GetAttentionKernels(bool by_dots) {
  return HWY_DYNAMIC_DISPATCH(ChooseAttention)(by_dots);
}
}  // namespace cpu
}  // namespace mea
#endif
