#include "kernels/cpu/int8_matmul.h"

#include <algorithm>

#include "kernels/int8_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/int8_matmul.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which compiles this file once per target.
#include <hwy/highway.h>

#include "kernels/cpu/integer_products-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {
namespace {

struct Int8Kind {
  static constexpr bool kGrouped = false;

  static const int8_t* RowOf(const MatMulBlock& block, int out) {
    return static_cast<const int8_t*>(block.w) + out * block.w_stride;
  }

  static const int8_t* Elements(const MatMulBlock& block, int out, int64_t begin, int64_t depth,
                                int8_t* room) {
    const int8_t* const from = RowOf(block, out) + begin;
    if (depth % kStep == 0) return from;
    // Bytes after the row are not read; the rest of `room` is multiplied by zeros.
    return std::copy_n(from, depth, room) - depth;
  }

  static float RowScale(const MatMulBlock& block, int out) {
    return Int8Scale(RowOf(block, out), block.k);
  }
};

}  // namespace

cpu::ProductKernels ChooseInt8MatMul() { return IntegerProducts<Int8Kind>(); }

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mea {
HWY_EXPORT(ChooseInt8MatMul);

namespace cpu {

ProductKernels GetInt8MatMulKernels() { return HWY_DYNAMIC_DISPATCH(ChooseInt8MatMul)(); }

}  // namespace cpu
}  // namespace mea
#endif
