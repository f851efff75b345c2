#pragma once

// Tensor-core products of a warpgroup, four warps that start at a multiple of four (sm_90a). They
// run asynchronously:
//   WgmmaFence(d); WgmmaSS64<N>(d, a, b, false); ... ; WgmmaCommit(); ...; WgmmaWait<0>(d);
// Until the wait, nobody touches d, the registers of A, or the operands in shared memory.
//
// With warp w of the group, g = lane / 4 and t = lane % 4 (PTX ISA, "Register fragments" of wgmma):
//   d[4j + i] = D[16w + g + 8 (i / 2)][8j + 2t + i % 2]
//   a[0..3] of WgmmaRS64: rows 16w.. of A as in kernels/cuda/device/mma.h, so that the accumulators
//   of a product, packed in pairs, are the A of the next.
//
// Operands in shared memory have the 128-byte swizzle: a row of 64 elements is 128 bytes, and its
// 16-byte granule i lies at i ^ (row % 8); eight rows are one kilobyte, aligned to one.
//   K-major: rows are the M or N index. stride_bytes leads from eight rows to the next eight (1024
//   if
//     they are contiguous), leading_bytes is not used. The next 16 of K are Advance(desc, 32),
//     within the 64 of a row.
//   MN-major: rows are the K index and hold 64 of N. stride_bytes leads from eight rows to the next
//     eight, leading_bytes from 64 of N to the next 64. The next 16 of K are two strides on.

#include "kernels/cuda/device/simt.h"

namespace mea::cuda {

using MatrixDescriptor = uint64_t;

__device__ __forceinline__ MatrixDescriptor Descriptor(const void* shared, int leading_bytes,
                                                       int stride_bytes) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62;
  return static_cast<uint64_t>((SharedAddress(shared) & 0x3ffff) >> 4) |
         static_cast<uint64_t>(leading_bytes >> 4) << 16 |
         static_cast<uint64_t>(stride_bytes >> 4) << 32 | kSwizzle128;
}

// The same matrix, `bytes` (a multiple of 16) further.
__device__ __forceinline__ MatrixDescriptor Advance(MatrixDescriptor descriptor, int bytes) {
  return descriptor + static_cast<uint64_t>(bytes >> 4);
}

namespace wgmma {

// Keeps the compiler from moving register accesses across this point: it does not know that the
// instructions still use them.
template <int kSize>
__device__ __forceinline__ void Pin(float (&d)[kSize]) {
#pragma unroll
  for (int i = 0; i < kSize; ++i) asm volatile("" : "+f"(d[i])::"memory");
}
template <int kProducts>
__device__ __forceinline__ void Pin(uint32_t (&a)[kProducts][4]) {
#pragma unroll
  for (int k = 0; k < kProducts; ++k) {
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+r"(a[k][i])::"memory");
  }
}

}  // namespace wgmma

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// Before the first product, and whenever registers of the next product were written since the last;
// names them: the accumulators, and the A of products from registers, [products][4].
template <class... D>
__device__ __forceinline__ void WgmmaFence(D&... d) {
  (wgmma::Pin(d), ...);
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void WgmmaCommit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Waits until at most the kGroups groups committed last are pending; names the accumulators that
// may be read from here on.
template <int kGroups, class... D>
__device__ __forceinline__ void WgmmaWait(D&... d) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kGroups) : "memory");
  (wgmma::Pin(d), ...);
}

// Moves registers between the warpgroups of a block: the block starts with launch_bounds' share
// each.
template <int kRegisters>
__device__ __forceinline__ void SetMaxRegistersInc() {
  static_assert(kRegisters >= 24 && kRegisters <= 256 && kRegisters % 8 == 0);
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void SetMaxRegistersDec() {
  static_assert(kRegisters >= 24 && kRegisters <= 256 && kRegisters % 8 == 0);
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

namespace wgmma {

// Operand lists: REGS_n names d[0..n), TEXT_n is "%0, ..., %(n-1)".
#define MEA_REGS_8(i)                                                                         \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define MEA_REGS_4 "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
#define MEA_REGS_16(i) MEA_REGS_8(i), MEA_REGS_8(i + 8)
#define MEA_REGS_32(i) MEA_REGS_16(i), MEA_REGS_16(i + 16)
#define MEA_REGS_48 MEA_REGS_32(0), MEA_REGS_16(32)
#define MEA_REGS_64(i) MEA_REGS_32(i), MEA_REGS_32(i + 32)
#define MEA_REGS_96 MEA_REGS_64(0), MEA_REGS_32(64)
#define MEA_REGS_128 MEA_REGS_64(0), MEA_REGS_64(64)
#define MEA_TEXT_4 "%0, %1, %2, %3"
#define MEA_TEXT_8 MEA_TEXT_4 ", %4, %5, %6, %7"
#define MEA_TEXT_16 MEA_TEXT_8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define MEA_TEXT_32 \
  MEA_TEXT_16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define MEA_TEXT_48 \
  MEA_TEXT_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define MEA_TEXT_64 \
  MEA_TEXT_48 ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define MEA_TEXT_80 \
  MEA_TEXT_64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define MEA_TEXT_96 \
  MEA_TEXT_80 ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define MEA_TEXT_112 \
  MEA_TEXT_96        \
  ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111"
#define MEA_TEXT_128                                                                             \
  MEA_TEXT_112                                                                                   \
  ", %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, " \
  "%127"

#define MEA_WGMMA_SS(n, text, regs, a_operand, b_operand, accumulate_operand)         \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " accumulate_operand                 \
               ", 0;\nwgmma.mma_async.sync.aligned.m64n" n "k16.f32.bf16.bf16 {" text \
               "}, " a_operand ", " b_operand ", p, 1, 1, 0, 0;\n}"                   \
               : regs                                                                 \
               : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)))
#define MEA_WGMMA_RS(n, text, regs, a_operands, b_operand, accumulate_operand)        \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " accumulate_operand                 \
               ", 0;\nwgmma.mma_async.sync.aligned.m64n" n "k16.f32.bf16.bf16 {" text \
               "}, {" a_operands "}, " b_operand ", p, 1, 1, 1;\n}"                   \
               : regs                                                                 \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b),                  \
                 "r"(static_cast<int>(accumulate)))

}  // namespace wgmma

// D [64, N] (+)= A [64, 16] B [N, 16]^T, both K-major in shared memory; without `accumulate` D's
// old value is not read. N is 8, 16, 32, 64, 96, 128, 192 or 256.
template <int N>
__device__ __forceinline__ void WgmmaSS64(float (&d)[N / 2], MatrixDescriptor a, MatrixDescriptor b,
                                          bool accumulate) {
  static_assert(N == 8 || N == 16 || N == 32 || N == 64 || N == 96 || N == 128 || N == 192 ||
                N == 256);
  if constexpr (N == 8) MEA_WGMMA_SS("8", MEA_TEXT_4, MEA_REGS_4, "%4", "%5", "%6");
  if constexpr (N == 16) MEA_WGMMA_SS("16", MEA_TEXT_8, MEA_REGS_8(0), "%8", "%9", "%10");
  if constexpr (N == 32) MEA_WGMMA_SS("32", MEA_TEXT_16, MEA_REGS_16(0), "%16", "%17", "%18");
  if constexpr (N == 64) MEA_WGMMA_SS("64", MEA_TEXT_32, MEA_REGS_32(0), "%32", "%33", "%34");
  if constexpr (N == 96) MEA_WGMMA_SS("96", MEA_TEXT_48, MEA_REGS_48, "%48", "%49", "%50");
  if constexpr (N == 128) MEA_WGMMA_SS("128", MEA_TEXT_64, MEA_REGS_64(0), "%64", "%65", "%66");
  if constexpr (N == 192) MEA_WGMMA_SS("192", MEA_TEXT_96, MEA_REGS_96, "%96", "%97", "%98");
  if constexpr (N == 256) MEA_WGMMA_SS("256", MEA_TEXT_128, MEA_REGS_128, "%128", "%129", "%130");
}

// D [64, N] (+)= A [64, 16] B [16, N]: A in registers, B MN-major in shared memory.
template <int N>
__device__ __forceinline__ void WgmmaRS64(float (&d)[N / 2], const uint32_t (&a)[4],
                                          MatrixDescriptor b, bool accumulate) {
  static_assert(N == 8 || N == 16 || N == 32 || N == 64 || N == 96 || N == 128 || N == 192 ||
                N == 256);
  if constexpr (N == 8) {
    MEA_WGMMA_RS("8", MEA_TEXT_4, MEA_REGS_4, "%4, %5, %6, %7", "%8", "%9");
  }
  if constexpr (N == 16) {
    MEA_WGMMA_RS("16", MEA_TEXT_8, MEA_REGS_8(0), "%8, %9, %10, %11", "%12", "%13");
  }
  if constexpr (N == 32) {
    MEA_WGMMA_RS("32", MEA_TEXT_16, MEA_REGS_16(0), "%16, %17, %18, %19", "%20", "%21");
  }
  if constexpr (N == 64) {
    MEA_WGMMA_RS("64", MEA_TEXT_32, MEA_REGS_32(0), "%32, %33, %34, %35", "%36", "%37");
  }
  if constexpr (N == 96) {
    MEA_WGMMA_RS("96", MEA_TEXT_48, MEA_REGS_48, "%48, %49, %50, %51", "%52", "%53");
  }
  if constexpr (N == 128) {
    MEA_WGMMA_RS("128", MEA_TEXT_64, MEA_REGS_64(0), "%64, %65, %66, %67", "%68", "%69");
  }
  if constexpr (N == 192) {
    MEA_WGMMA_RS("192", MEA_TEXT_96, MEA_REGS_96, "%96, %97, %98, %99", "%100", "%101");
  }
  if constexpr (N == 256) {
    MEA_WGMMA_RS("256", MEA_TEXT_128, MEA_REGS_128, "%128, %129, %130, %131", "%132", "%133");
  }
}

#undef MEA_WGMMA_RS
#undef MEA_WGMMA_SS
#undef MEA_TEXT_128
#undef MEA_TEXT_112
#undef MEA_TEXT_96
#undef MEA_TEXT_80
#undef MEA_TEXT_64
#undef MEA_TEXT_48
#undef MEA_TEXT_32
#undef MEA_TEXT_16
#undef MEA_TEXT_8
#undef MEA_TEXT_4
#undef MEA_REGS_128
#undef MEA_REGS_96
#undef MEA_REGS_64
#undef MEA_REGS_48
#undef MEA_REGS_32
#undef MEA_REGS_16
#undef MEA_REGS_8
#undef MEA_REGS_4

#else  // not sm_90a: a kernel that gets here was started on the wrong device

template <class... D>
__device__ __forceinline__ void WgmmaFence(D&...) {
  asm volatile("trap;");
}
__device__ __forceinline__ void WgmmaCommit() { asm volatile("trap;"); }
template <int kGroups, class... D>
__device__ __forceinline__ void WgmmaWait(D&...) {
  asm volatile("trap;");
}
template <int kRegisters>
__device__ __forceinline__ void SetMaxRegistersInc() {
  asm volatile("trap;");
}
template <int kRegisters>
__device__ __forceinline__ void SetMaxRegistersDec() {
  asm volatile("trap;");
}
template <int N>
__device__ __forceinline__ void WgmmaSS64(float (&)[N / 2], MatrixDescriptor, MatrixDescriptor,
                                          bool) {
  asm volatile("trap;");
}
template <int N>
__device__ __forceinline__ void WgmmaRS64(float (&)[N / 2], const uint32_t (&)[4], MatrixDescriptor,
                                          bool) {
  asm volatile("trap;");
}

#endif

}  // namespace mea::cuda
