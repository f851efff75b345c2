#pragma once

// Tensor-core products of one warp. With g = lane / 4 and t = lane % 4 (PTX ISA, "Matrix fragments
// for mma.m16n8k16"):
//   a[0] = A[g][2t, 2t+1]   a[1] = A[g+8][2t, 2t+1]   a[2] = A[g][2t+8, +9]   a[3] = A[g+8][2t+8,
//   +9] b0 = B[2t, 2t+1][g]     b1 = B[2t+8, 2t+9][g] d[0], d[1] = D[g][2t, 2t+1] d[2], d[3] =
//   D[g+8][2t, 2t+1]

#include "kernels/cuda/device/simt.h"

namespace mea::cuda {

// Four 8 x 8 matrices of 16-bit elements. Lane 8i + j gives the 16-byte aligned address of row j of
// matrix i; r[i] receives elements [g][2t, 2t+1] of matrix i.
__device__ __forceinline__ void LdMatrix4(uint32_t (&r)[4], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(SharedAddress(shared_row))
               : "memory");
}

// The same, transposed: r[i] receives elements [2t, 2t+1][g] of matrix i.
__device__ __forceinline__ void LdMatrix4Trans(uint32_t (&r)[4], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(SharedAddress(shared_row))
               : "memory");
}

// D += A B: A [16, 16] and B [16, 8] in BF16, D [16, 8] in F32.
__device__ __forceinline__ void MmaBf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                        uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace mea::cuda
