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

class ItemAttention {
 public:
  ItemAttention(const AttentionWork& work, const KeySide& keys, const ValueSide& values)
      : work_(work), keys_(keys), values_(values), block_(work, keys, values) {}

  void Run() {
    const AttentionItem& item = work_.item;
    const KvSpec& spec = work_.args.kv.spec;
    keys_.PrepareQueries();
    LoadMix(work_.args.mix.key, item.sources->keys, spec.key_heads, keys_, work_.key_mix);
    LoadMix(work_.args.mix.value, item.sources->values, spec.value_heads, values_, work_.value_mix);
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
  // W[component, virtual head] of the item's mixed heads.
  template <typename Side>
  void LoadMix(const TensorView& mix, const std::vector<int32_t>& sources, int components,
               const Side& side, float* target) {
    if (mix.empty()) return;
    for (int head = work_.item.head_begin; head < work_.item.head_end; ++head) {
      if (sources[head] != cpu::kMixedHead) continue;
      for (int c = 0; c < components; ++c) target[c] = mix.row<float>(c)[head];
      side.Round(target, components);
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
  const KeySide& keys_;
  const ValueSide& values_;
  const BlockAttention block_;
};

// Calls run(T()) for the format of keys or values; with `by_dots`, BF16 pairs are multiplied by dot
// products.
template <typename Run>
HWY_INLINE void WithFormat(DType dtype, [[maybe_unused]] bool by_dots, Run run) {
  switch (dtype) {
    case DType::kF32:
      return run(float{});
    case DType::kBf16:
#if HWY_TARGET == HWY_AVX3
      if (by_dots) return run(DotBf16{});
#endif
      return run(Bf16{});
    case DType::kI8:
      return run(int8_t{});
    case DType::kI4:
      return run(Int4Pair{});
    default:
      MEA_CHECK(false);
  }
}

template <typename T>
using ValueElement = std::conditional_t<std::is_same_v<T, Int4Pair>, Int4Columns, T>;

void RunItem(const AttentionWork& work, bool dots_of_keys, bool dots_of_values) {
  const KvDTypes dtype = work.args.kv.spec.dtype;
  WithFormat(dtype.keys, dots_of_keys, [&](auto key) HWY_ATTR {
    const KeysOf<decltype(key)> keys(work);
    WithFormat(dtype.values, dots_of_values, [&](auto value) HWY_ATTR {
      const ValuesOf<ValueElement<decltype(value)>> values(work);
      ItemAttention(work, keys, values).Run();
    });
  });
}

void RunItem(const AttentionWork& work) { RunItem(work, false, false); }

void RunItemByDots(const AttentionWork& work) {
  const KvSpec& spec = work.args.kv.spec;
  // The bias is multiplied with queries in floats.
  RunItem(work, cpu::PairsValues(spec.dtype.keys, spec.head_dim) && work.args.key_bias.empty(),
          cpu::PairsValues(spec.dtype.values, spec.head_dim));
}

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();
