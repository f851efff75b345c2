#pragma once

// Stands for kernels/cuda/device/wgmma.h when kernels are compiled for the CPU.

#include "kernels/cuda/device/simt.h"
#include "tests/simt/wgmma.h"

namespace mea::cuda {

using MatrixDescriptor = uint64_t;

inline MatrixDescriptor Descriptor(const void* shared, int leading_bytes, int stride_bytes,
                                   simt::Where where = simt::Where::current()) {
  return simt::MatrixDescriptor(shared, leading_bytes, stride_bytes, where);
}
inline MatrixDescriptor Advance(MatrixDescriptor descriptor, int bytes) {
  return descriptor + static_cast<uint64_t>(bytes >> 4);
}

// The accumulators named are for the compiler of the device alone; they leave no room for the place
// of the call.
template <class... D>
[[gnu::noinline]] void WgmmaFence(D&...) {
  if (simt::IsOmitted("WgmmaFence", __builtin_return_address(0))) return;
  simt::Block::Current().Get<simt::Wgmma>().Fence(simt::Where::current());
}
inline void WgmmaCommit(simt::Where where = simt::Where::current()) {
  if (simt::IsOmitted("WgmmaCommit", where)) return;
  simt::Block::Current().Get<simt::Wgmma>().Commit(where);
}
template <int kGroups, class... D>
[[gnu::noinline]] void WgmmaWait(D&...) {
  if (simt::IsOmitted("WgmmaWait", __builtin_return_address(0))) return;
  simt::Block::Current().Get<simt::Wgmma>().Wait(kGroups, simt::Where::current());
}

template <int kRegisters>
void SetMaxRegistersInc(simt::Where where = simt::Where::current()) {
  static_assert(kRegisters >= 24 && kRegisters <= 256 && kRegisters % 8 == 0);
  simt::SyncWarp(where);
}
template <int kRegisters>
void SetMaxRegistersDec(simt::Where where = simt::Where::current()) {
  static_assert(kRegisters >= 24 && kRegisters <= 256 && kRegisters % 8 == 0);
  simt::SyncWarp(where);
}

template <int N>
void WgmmaSS64(float (&d)[N / 2], MatrixDescriptor a, MatrixDescriptor b, bool accumulate,
               simt::Where where = simt::Where::current()) {
  static_assert(N == 8 || N == 16 || N == 32 || N == 64 || N == 96 || N == 128 || N == 192 ||
                N == 256);
  const simt::Product product = {
      .n = N, .a_in_registers = false, .a = a, .b = b, .accumulate = accumulate};
  simt::Block::Current().Get<simt::Wgmma>().Issue(product, d, nullptr, where);
}
template <int N>
void WgmmaRS64(float (&d)[N / 2], const uint32_t (&a)[4], MatrixDescriptor b, bool accumulate,
               simt::Where where = simt::Where::current()) {
  static_assert(N == 8 || N == 16 || N == 32 || N == 64 || N == 96 || N == 128 || N == 192 ||
                N == 256);
  const simt::Product product = {
      .n = N, .a_in_registers = true, .a = 0, .b = b, .accumulate = accumulate};
  simt::Block::Current().Get<simt::Wgmma>().Issue(product, d, a, where);
}

}  // namespace mea::cuda
