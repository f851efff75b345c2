#include "kernels/cpu/avx512_lanes-inl.h"
#include "kernels/cpu/vnni_matmul.h"

#define MEA_PRODUCT_TARGET MEA_LANES_TARGET
#include "kernels/cpu/transposed-inl.h"

HWY_PUSH_ATTRIBUTES(MEA_PRODUCT_TARGET)
namespace mea::cpu {
namespace {

// Three instructions in place of vpdpbusd. The first one saturates at 16 bits, which weights in 4
// bits do not reach: 2 * 15 * 127.
HWY_INLINE Words DotBytes(Words sum, Words a, Words b) {
  const __m512i pairs = _mm512_maddubs_epi16((__m512i)a, (__m512i)b);
  return sum + (Words)_mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
}

}  // namespace
}  // namespace mea::cpu
HWY_POP_ATTRIBUTES

#include "kernels/cpu/vnni_matmul-inl.h"
// After what it builds on.
#include "kernels/cpu/vnni_int4-inl.h"

namespace mea::cpu {

ProductKernels GetAvx512Int4MatMulKernels() { return kByteKernels<Int4Kind>; }

}  // namespace mea::cpu
