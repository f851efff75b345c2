#include "kernels/cpu/int4_matmul.h"

#include <algorithm>

#include "kernels/int4_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/int4_matmul.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which compiles this file once per target.
#include <hwy/highway.h>

#include "kernels/cpu/integer_products-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {
namespace {

// The integers of a block less its zero.
HWY_INLINE void UnpackBlock(const Int4Pair* block, int zero, int8_t* to) {
#if HWY_TARGET == HWY_SCALAR
  for (int i = 0; i < kInt4BlockBytes; ++i) {
    to[i] = static_cast<int8_t>((block[i].bits & 15) - zero);
    to[i + kInt4BlockBytes] = static_cast<int8_t>((block[i].bits >> 4) - zero);
  }
#else
  const hn::FixedTag<uint8_t, kInt4BlockBytes> bytes;
  const hn::FixedTag<int8_t, kInt4BlockBytes> integers;
  const auto pairs = hn::LoadU(bytes, &block->bits);
  const auto zeros = hn::Set(integers, static_cast<int8_t>(zero));
  const auto low = hn::BitCast(integers, hn::And(pairs, hn::Set(bytes, 15)));
  const auto high = hn::BitCast(integers, hn::ShiftRight<4>(pairs));
  hn::StoreU(hn::Sub(low, zeros), integers, to);
  hn::StoreU(hn::Sub(high, zeros), integers, to + kInt4BlockBytes);
#endif
}

struct Int4Kind {
  static constexpr bool kGrouped = true;

  static const Int4Pair* RowOf(const MatMulBlock& block, int out) {
    return static_cast<const Int4Pair*>(block.w) + out * block.w_stride;
  }

  static const Int4Group* GroupAt(const MatMulBlock& block, int out, int64_t i) {
    return Int4GroupsOf(RowOf(block, out), block.k) + i / block.w_group;
  }

  static const int8_t* Elements(const MatMulBlock& block, int out, int64_t begin, int64_t depth,
                                int8_t* room) {
    const Int4Pair* pairs = RowOf(block, out) + Int4GroupsOffset(begin);
    const Int4Group* group = GroupAt(block, out, begin);
    for (int64_t i = 0; i < depth; ++group) {
      const int64_t end = std::min(depth, i + block.w_group);
      for (; i < end; i += kInt4Block, pairs += kInt4BlockBytes) {
        UnpackBlock(pairs, group->zero, room + i);
      }
    }
    return room;
  }

  static void GroupScales(const MatMulBlock& block, int out, int64_t begin, int64_t depth, int step,
                          float* scales) {
    const Int4Group* group = GroupAt(block, out, begin);
    for (int64_t i = 0; i < depth; i += block.w_group, ++group, scales += step) {
      *scales = ToFloat(group->scale);
    }
  }

  static float RowScale(const MatMulBlock& block, int out) {
    return Int4Scale(RowOf(block, out), block.k, block.w_group);
  }
};

}  // namespace

cpu::ProductKernels ChooseInt4MatMul() { return IntegerProducts<Int4Kind>(); }

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mea {
HWY_EXPORT(ChooseInt4MatMul);

namespace cpu {

ProductKernels GetInt4MatMulKernels() { return HWY_DYNAMIC_DISPATCH(ChooseInt4MatMul)(); }

}  // namespace cpu
}  // namespace mea
#endif
