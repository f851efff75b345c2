#pragma once

// Stands for kernels/cuda/device/mma.h when kernels are compiled for the CPU.

#include "kernels/cuda/device/simt.h"

namespace mea::cuda {

inline void LdMatrix4(uint32_t (&r)[4], const void* shared_row,
                      simt::Where where = simt::Where::current()) {
  simt::LdMatrix4(r, shared_row, /*transposed=*/false, where);
}
inline void LdMatrix4Trans(uint32_t (&r)[4], const void* shared_row,
                           simt::Where where = simt::Where::current()) {
  simt::LdMatrix4(r, shared_row, /*transposed=*/true, where);
}
inline void MmaBf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                    simt::Where where = simt::Where::current()) {
  simt::MmaBf16(d, a, b0, b1, where);
}

}  // namespace mea::cuda
