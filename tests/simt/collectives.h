#pragma once

// What the lanes of a warp do together, beneath the headers in tests/simt/kernels/cuda/device.

#include <bit>
#include <cstdint>

#include "tests/simt/block.h"

namespace mea::simt {

inline int LaneId() { return Block::Current().lane(); }

void SyncWarp(const Where& where);
void NamedBarrier(int id, int num_threads, const Where& where);
uint32_t Ballot(bool predicate, const Where& where);

// The value of lane `source`, which may differ per lane; outside the warp: the lane's own.
uint32_t ShuffleBits(const char* what, uint32_t value, int source, const Where& where);

template <class T>
T Shuffle(const char* what, T value, int source, const Where& where) {
  static_assert(sizeof(T) == 4);
  return std::bit_cast<T>(ShuffleBits(what, std::bit_cast<uint32_t>(value), source, where));
}

// Aborts unless `bytes` bytes can be accessed there as one vector.
void CheckShared(const char* what, const void* shared, int bytes, const Where& where);
void CheckGlobal(const char* what, const void* global, int bytes, const Where& where);

// ldmatrix.x4 and mma.m16n8k16, see kernels/cuda/device/mma.h.
void LdMatrix4(uint32_t (&r)[4], const void* shared_row, bool transposed, const Where& where);
void MmaBf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, const Where& where);

}  // namespace mea::simt
