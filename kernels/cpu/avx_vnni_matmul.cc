#include "kernels/cpu/avx2_lanes-inl.h"
#include "kernels/cpu/vnni_matmul.h"

#define MEA_PRODUCT_TARGET MEA_LANES_TARGET ",avxvnni"
#include "kernels/cpu/transposed-inl.h"

HWY_PUSH_ATTRIBUTES(MEA_PRODUCT_TARGET)
namespace mea::cpu {
namespace {

HWY_INLINE Words DotBytes(Words sum, Words a, Words b) {
  return (Words)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)a, (__m256i)b);
}

}  // namespace
}  // namespace mea::cpu
HWY_POP_ATTRIBUTES

#include "kernels/cpu/vnni_matmul-inl.h"
// After what it builds on.
#include "kernels/cpu/vnni_int4-inl.h"

namespace mea::cpu {

bool HasAvxVnniProducts() {
  return __builtin_cpu_supports("avxvnni") && __builtin_cpu_supports("avx2") &&
         __builtin_cpu_supports("fma");
}

ProductKernels GetAvxVnniMatMulKernels() { return kByteKernels<Int8Few, Int8Many>; }
ProductKernels GetAvxVnniInt4MatMulKernels() { return kByteKernels<Int4Kind>; }

}  // namespace mea::cpu
