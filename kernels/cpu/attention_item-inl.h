// One item of attention at work: its splits in order, each block by block. What queries and results
// are belongs to the op.
#if defined(MEA_KERNELS_CPU_ATTENTION_ITEM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEA_KERNELS_CPU_ATTENTION_ITEM_INL_H_
#undef MEA_KERNELS_CPU_ATTENTION_ITEM_INL_H_
#else
#define MEA_KERNELS_CPU_ATTENTION_ITEM_INL_H_
#endif

#include <algorithm>

#include "kernels/cpu/attention_block-inl.h"
#include "kernels/cpu/attention_record-inl.h"
#include "kernels/cpu/attention_work.h"

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {

using cpu::AttentionItem;
using cpu::kSplitTokens;
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

template <typename T>
class ItemAttention {
 public:
  explicit ItemAttention(const AttentionWork& work) : work_(work), block_(work) {}

  // The queries of the item lie in work.queries. Leaves a record of all splits for each row in
  // work.total, unless the item wants partial ones.
  void Run() {
    const AttentionItem& item = work_.item;
    const KvSpec& spec = work_.args.kv.spec;
    LoadMix(work_.args.mix.key, spec.key_heads, work_.key_mix);
    LoadMix(work_.args.mix.value, spec.value_heads, work_.value_mix);
    ClearRecords(work_.total);
    for (int split = item.split_begin; split < item.split_end; ++split) {
      ClearRecords(work_.part);
      for (int i = 0; i < kSplitTokens; i += kBlockTokens) {
        block_.Run(int64_t{split} * kSplitTokens + i);
      }
      if (item.partials != nullptr) {
        KeepPartials();
      } else {
        AddPartToTotal();
      }
    }
  }

 private:
  // W[component, virtual head], turned into one row of components for each head of the item.
  void LoadMix(const TensorView& mix, int components, float* target) {
    if (mix.empty()) return;
    for (int head = work_.item.head_begin; head < work_.item.head_end; ++head) {
      for (int c = 0; c < components; ++c) *target++ = mix.row<float>(c)[head];
    }
  }

  void ClearRecords(float* records) {
    for (int row = 0; row < work_.num_rows; ++row) {
      ClearRecord(records + row * work_.record_floats, work_.record_floats);
    }
  }

  void AddPartToTotal() {
    const int64_t floats = work_.record_floats;
    for (int row = 0; row < work_.num_rows; ++row) {
      MergeRecord(work_.part + row * floats, floats, work_.total + row * floats);
    }
  }

  void KeepPartials() {
    const AttentionItem& item = work_.item;
    const float* record = work_.part;
    ForRows(work_, [&, this](int token, int head, int j) HWY_ATTR {
      const int64_t index = token * item.token_stride + head * work_.group + j;
      std::copy(record, record + work_.record_floats, item.partials + index * work_.record_floats);
      record += work_.record_floats;
    });
  }

  const AttentionWork& work_;
  const BlockAttention<T> block_;
};

// Runs what ItemAttention says in the dtype of the cache.
inline void RunItem(const AttentionWork& work) {
  switch (work.args.kv.spec.dtype) {
    case DType::kF32:
      return ItemAttention<float>(work).Run();
    case DType::kBf16:
      return ItemAttention<Bf16>(work).Run();
    case DType::kI8:
      return ItemAttention<int8_t>(work).Run();
    default:
      MEA_CHECK(false);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#endif
