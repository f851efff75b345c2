#pragma once

#include "kernels/cuda/device/mbarrier.h"
#include "kernels/cuda/device/simt.h"

namespace mea::cuda {

// A place in a ring of slots: the next to be filled, to be read, or to be released.
template <int kSlots>
struct Slot {
  int index = 0;
  int parity = 0;  // of the rounds of the ring

  __device__ __forceinline__ void Next() {
    if (++index < kSlots) return;
    index = 0;
    parity ^= 1;
  }
};

// The barriers of a ring of slots that bulk copies fill. A slot is full when its bytes have
// arrived, and empty when every one of its readers has released it.
template <int kSlots>
class SlotBarriers {
 public:
  static constexpr int kBytes = 2 * kSlots * static_cast<int>(sizeof(MBarrier));

  // `memory`: kBytes of shared memory, aligned to 8.
  __device__ explicit SlotBarriers(std::byte* memory)
      : full_(reinterpret_cast<MBarrier*>(memory)) {}

  // Called by one thread, followed by a SyncThreads. A reader is a thread that calls Release.
  __device__ void Init(int num_readers) const {
    for (int i = 0; i < kSlots; ++i) {
      cuda::Init(full_ + i, 1);
      cuda::Init(Empty(i), num_readers);
    }
    FenceInit();
  }

  // Called by the filling thread before it fills; announces the bytes, even if there are none.
  __device__ __forceinline__ void WaitEmpty(Slot<kSlots> slot) const {
    Wait(Empty(slot.index), slot.parity ^ 1);
  }
  __device__ __forceinline__ MBarrier* Full(Slot<kSlots> slot) const { return full_ + slot.index; }

  __device__ __forceinline__ void WaitFull(Slot<kSlots> slot) const {
    Wait(Full(slot), slot.parity);
  }
  __device__ __forceinline__ void Release(Slot<kSlots> slot) const { Arrive(Empty(slot.index)); }

 private:
  __device__ __forceinline__ MBarrier* Empty(int index) const { return full_ + kSlots + index; }

  MBarrier* full_;  // [kSlots], then as many of the empty
};

}  // namespace mea::cuda
