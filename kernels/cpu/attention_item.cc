#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_item.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which compiles this file once per target.
#include <hwy/highway.h>

#include "kernels/cpu/attention_block-inl.h"
#include "kernels/cpu/attention_item-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {

using cpu::kSplitTokens;

template <typename T>
class ItemAttention {
 public:
  explicit ItemAttention(const AttentionWork& work) : work_(work), block_(work) {}

  void Run() {
    const AttentionItem& item = work_.item;
    const KvSpec& spec = work_.args.kv.spec;
    RoundQueries();
    LoadMix(work_.args.mix.key, item.sources->keys, spec.key_heads, work_.key_mix);
    LoadMix(work_.args.mix.value, item.sources->values, spec.value_heads, work_.value_mix);
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
  void RoundQueries() {
    for (int row = 0; row < work_.num_rows; ++row) {
      RoundOperand<T>(work_.queries + int64_t{row} * work_.head_dim, work_.head_dim);
    }
  }

  // W[component, virtual head] of the item's mixed heads.
  void LoadMix(const TensorView& mix, const std::vector<int32_t>& sources, int components,
               float* target) {
    if (mix.empty()) return;
    for (int head = work_.item.head_begin; head < work_.item.head_end; ++head) {
      if (sources[head] != cpu::kMixedHead) continue;
      for (int c = 0; c < components; ++c) target[c] = mix.row<float>(c)[head];
      RoundOperand<T>(target, components);
      target += components;
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

void RunItem(const AttentionWork& work) {
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

void RunItemByDots(const AttentionWork& work) {
#if HWY_TARGET == HWY_AVX3
  const KvSpec& spec = work.args.kv.spec;
  // The bias is multiplied with queries in floats.
  if (cpu::PairsValues(spec.dtype, spec.head_dim) && work.args.key_bias.empty()) {
    return ItemAttention<DotBf16>(work).Run();
  }
#endif
  RunItem(work);
}

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();
