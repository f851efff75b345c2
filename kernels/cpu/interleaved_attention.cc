// Interleaved pseudo heads on the kernel of composed heads. Pseudo head r of head j, as a key, is
// the virtual head j * P + r composed of the components; the P pseudo queries of head j, rotated
// back by r, are its group. So its scores are ordinary, except that some rows see one token less;
// the softmax of a pseudo query over all keys merges its P records, as those of splits are merged.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/interleaved_attention.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which compiles this file once per target.
#include <hwy/highway.h>

#include "kernels/cpu/attention_item-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {

// target = scale * (q rotated back by the angles of cos_sin)
HWY_INLINE void RotateBack(const float* q, const float* cos_sin, float scale, int head_dim,
                           float* target) {
  const int half = head_dim / 2;
  const float* sine = cos_sin + half;
  for (int i = 0; i < half; ++i) {
    const float first = q[i] * scale;
    const float second = q[i + half] * scale;
    target[i] = first * cos_sin[i] + second * sine[i];
    target[i + half] = second * cos_sin[i] - first * sine[i];
  }
}

// Where pseudo query p of head j comes from and goes to.
HWY_INLINE int QueryHead(const InterleavedAttentionArgs& args, int j, int p) {
  return p * args.paged.kv_heads + j;
}

void LoadRotatedQueries(const InterleavedAttentionArgs& args, const AttentionWork& work) {
  const TensorView& q = args.paged.q;
  const float scale = static_cast<float>(args.paged.scale);
  float* target = work.queries;
  ForRows(work, [&](int token, int head, int p) HWY_ATTR {
    const int j = head / args.pseudo_heads;
    const int r = head % args.pseudo_heads;
    const float* own =
        q.row<float>(work.item.token_begin + token) + QueryHead(args, j, p) * q.stride[1];
    RotateBack(own, args.rotations.row<float>(r), scale, work.head_dim, target);
    target += work.head_dim;
  });
}

// Merges the P records of each pseudo query of the item.
void FinishItem(const InterleavedAttentionArgs& args, const AttentionWork& work) {
  const AttentionItem& item = work.item;
  const int pseudo_heads = args.pseudo_heads;
  const int64_t head_records = work.group_rows * work.record_floats;
  float* merged = work.part;  // no longer needed
  for (int head = item.head_begin; head < item.head_end; head += pseudo_heads) {
    const float* records = work.total + (head - item.head_begin) * head_records;
    for (int row = 0; row < work.group_rows; ++row) {
      ClearRecord(merged, work.record_floats);
      for (int r = 0; r < pseudo_heads; ++r) {
        MergeRecord(records + r * head_records + row * work.record_floats, work.record_floats,
                    merged);
      }
      FinishRow(args.paged, item.token_begin + row / pseudo_heads,
                QueryHead(args, head / pseudo_heads, row % pseudo_heads), merged);
    }
  }
}

template <void (*kRunItem)(const AttentionWork&)>
void RunInterleaved(const InterleavedAttentionArgs& args, const AttentionItem& item,
                    float* scratch) {
  const AttentionWork work(args.paged, cpu::HeadShapeOf(args), item, scratch);
  LoadRotatedQueries(args, work);
  kRunItem(work);
  if (item.partials == nullptr) FinishItem(args, work);
}

int64_t InterleavedScratch(const InterleavedAttentionArgs& args, const AttentionItem& item) {
  return AttentionWork::ScratchFloats(args.paged, cpu::HeadShapeOf(args), item);
}

// Splits first, then pseudo heads, as an item that holds all splits does.
void MergeInterleaved(const InterleavedAttentionArgs& args, const cpu::MergeItem& item,
                      float* scratch) {
  const int pseudo_heads = args.pseudo_heads;
  const int64_t record_floats = RecordFloats(args.paged.kv.spec.head_dim);
  float* merged = scratch;
  float* record = scratch + record_floats;
  for (int j = 0; j < args.paged.kv_heads; ++j) {
    for (int p = 0; p < pseudo_heads; ++p) {
      ClearRecord(merged, record_floats);
      for (int r = 0; r < pseudo_heads; ++r) {
        const int64_t row = (int64_t{j} * pseudo_heads + r) * pseudo_heads + p;
        ClearRecord(record, record_floats);
        for (int64_t split = 0; split < item.num_splits; ++split) {
          MergeRecord(item.partials + (split * item.split_stride + row) * record_floats,
                      record_floats, record);
        }
        MergeRecord(record, record_floats, merged);
      }
      FinishRow(args.paged, item.token, QueryHead(args, j, p), merged);
    }
  }
}

cpu::InterleavedAttentionKernels ChooseInterleavedAttention(bool by_dots) {
  return {.scratch_floats = InterleavedScratch,
          .run = by_dots ? RunInterleaved<RunItemByDots> : RunInterleaved<RunItem>,
          .merge = MergeInterleaved};
}

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mea {
HWY_EXPORT(ChooseInterleavedAttention);

namespace cpu {
InterleavedAttentionKernels GetInterleavedAttentionKernels(bool by_dots) {
  return HWY_DYNAMIC_DISPATCH(ChooseInterleavedAttention)(by_dots);
}
}  // namespace cpu
}  // namespace mea
#endif
