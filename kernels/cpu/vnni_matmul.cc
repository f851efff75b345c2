#include "kernels/cpu/vnni_matmul.h"

#include "kernels/cpu/avx512_lanes-inl.h"

#define MEA_PRODUCT_TARGET MEA_LANES_TARGET ",avx512vnni"
#include "kernels/cpu/transposed-inl.h"

HWY_PUSH_ATTRIBUTES(MEA_PRODUCT_TARGET)
namespace mea::cpu {
namespace {

HWY_INLINE Words DotBytes(Words sum, Words a, Words b) {
  return (Words)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
}

}  // namespace
}  // namespace mea::cpu
HWY_POP_ATTRIBUTES

#include "kernels/cpu/vnni_matmul-inl.h"
// After what it builds on.
#include "kernels/cpu/vnni_int4-inl.h"

namespace mea::cpu {

bool HasVnniProducts() {
  return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

ProductKernels GetVnniMatMulKernels() { return kByteKernels<Int8Few, Int8Many>; }
ProductKernels GetVnniInt4MatMulKernels() { return kByteKernels<Int4Kind>; }

}  // namespace mea::cpu
