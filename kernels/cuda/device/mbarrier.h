#pragma once

// Barriers in shared memory that count arrivals and bytes, and the bulk copies that report to them
// (sm_90). A phase is complete when `count` arrivals and all announced bytes are in; the next
// begins at once. A fresh barrier is in phase 0.
//   producer: Wait(empty, parity ^ 1); ArriveExpect(full, bytes); BulkCopy(slot, ..., full)
//   consumer: Wait(full, parity); ... ; Arrive(empty)
// with parity 0 in the first round of the ring, 1 in the second, and so on.

#include "kernels/cuda/device/simt.h"

namespace mea::cuda {

using MBarrier = uint64_t;

enum class CachePolicy { kNormal, kEvictFirst };

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900

// Called by one thread; then FenceInit, then a SyncThreads before any other thread uses the
// barrier.
__device__ __forceinline__ void Init(MBarrier* barrier, int count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(SharedAddress(barrier)), "r"(count)
               : "memory");
}

// After the last Init, by the thread that called them: lets bulk copies see the barriers.
__device__ __forceinline__ void FenceInit() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// Arrives, and announces `bytes` bytes of bulk copies for this phase.
__device__ __forceinline__ void ArriveExpect(MBarrier* barrier, int bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(SharedAddress(barrier)),
      "r"(bytes)
      : "memory");
}

__device__ __forceinline__ void Arrive(MBarrier* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(SharedAddress(barrier)) : "memory");
}

// Returns when the phase of that parity is complete. On a fresh barrier parity 1 counts as
// complete.
__device__ __forceinline__ void Wait(MBarrier* barrier, int parity) {
  uint32_t complete;
  do {
    asm volatile(
        "{\n"
        ".reg .pred p;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n"
        "}"
        : "=r"(complete)
        : "r"(SharedAddress(barrier)), "r"(parity)
        : "memory");
  } while (complete == 0);
}

// Copies asynchronously; `bytes` and both addresses are multiples of 16. One thread issues it.
__device__ __forceinline__ void BulkCopy(void* shared, const void* global, int bytes,
                                         MBarrier* barrier,
                                         CachePolicy policy = CachePolicy::kNormal) {
  if (policy == CachePolicy::kEvictFirst) {
    uint64_t hint;
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(hint));
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
        "[%0], [%1], %2, [%3], %4;" ::"r"(SharedAddress(shared)),
        "l"(global), "r"(bytes), "r"(SharedAddress(barrier)), "l"(hint)
        : "memory");
  } else {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
        "[%0], [%1], %2, [%3];" ::"r"(SharedAddress(shared)),
        "l"(global), "r"(bytes), "r"(SharedAddress(barrier))
        : "memory");
  }
}

// Lets wgmma and bulk copies see what this thread has read and written in shared memory by ordinary
// accesses (CopyAsync16 counts as one). For other threads' accesses: they fence, then all
// synchronise.
__device__ __forceinline__ void FenceProxyAsync() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

#else  // older: a kernel that gets here was started on the wrong device

__device__ __forceinline__ void Init(MBarrier*, int) { asm volatile("trap;"); }
__device__ __forceinline__ void FenceInit() { asm volatile("trap;"); }
__device__ __forceinline__ void ArriveExpect(MBarrier*, int) { asm volatile("trap;"); }
__device__ __forceinline__ void Arrive(MBarrier*) { asm volatile("trap;"); }
__device__ __forceinline__ void Wait(MBarrier*, int) { asm volatile("trap;"); }
__device__ __forceinline__ void BulkCopy(void*, const void*, int, MBarrier*,
                                         CachePolicy = CachePolicy::kNormal) {
  asm volatile("trap;");
}
__device__ __forceinline__ void FenceProxyAsync() { asm volatile("trap;"); }

#endif

}  // namespace mea::cuda
