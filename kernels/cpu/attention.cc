#include "kernels/cpu/attention.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which compiles this file once per target.
#include <hwy/highway.h>

#include "kernels/cpu/attention_block-inl.h"
#include "kernels/cpu/attention_record-inl.h"
#include "kernels/cpu/attention_work.h"

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {

using cpu::AttentionItem;
using cpu::kSplitTokens;
using cpu::RecordFloats;

// Runs one item: its splits in order, each block by block.
template <typename T>
class Worker {
 public:
  explicit Worker(const AttentionWork& work) : work_(work), block_(work) {}

  void Run() {
    const AttentionItem& item = work_.item;
    const KvSpec& spec = work_.args.kv.spec;
    LoadQueries();
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
    if (item.partials == nullptr) Finish();
  }

 private:
  // Copies the queries of the item, scaled, into [num_rows][head_dim].
  void LoadQueries() {
    const PagedAttentionArgs& args = work_.args;
    const float scale = static_cast<float>(args.scale);
    float* target = work_.queries;
    ForRows([&, this](int token, int head) HWY_ATTR {
      const float* q = args.q.row<float>(work_.item.token_begin + token) + head * args.q.stride[1];
      for (int i = 0; i < work_.head_dim; ++i) target[i] = q[i] * scale;
      target += work_.head_dim;
    });
  }

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
    ForRows([&, this](int token, int head) HWY_ATTR {
      const int64_t index = token * item.token_stride + head;
      std::copy(record, record + work_.record_floats, item.partials + index * work_.record_floats);
      record += work_.record_floats;
    });
  }

  void Finish() {
    const float* record = work_.total;
    ForRows([&, this](int token, int head) HWY_ATTR {
      FinishRow(work_.args, work_.item.token_begin + token, head, record);
      record += work_.record_floats;
    });
  }

  // body(token of the item, query head), in the order of the rows.
  template <typename Body>
  HWY_INLINE void ForRows(Body body) {
    for (int head = work_.item.head_begin; head < work_.item.head_end; ++head) {
      for (int token = 0; token < work_.num_tokens; ++token) {
        for (int j = 0; j < work_.group; ++j) body(token, head * work_.group + j);
      }
    }
  }

  const AttentionWork& work_;
  const BlockAttention<T> block_;
};

void RunAttention(const PagedAttentionArgs& args, const AttentionItem& item, float* scratch) {
  const AttentionWork work(args, item, scratch);
  switch (args.kv.spec.dtype) {
    case DType::kF32:
      return Worker<float>(work).Run();
    case DType::kBf16:
      return Worker<Bf16>(work).Run();
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
  return {
      .scratch_floats = AttentionWork::ScratchFloats, .run = RunAttention, .merge = MergeSplits};
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
