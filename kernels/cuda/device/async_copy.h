#pragma once

// Copies from global to shared memory that run asynchronously to the thread (cp.async). A thread
// commits what it has issued since its last commit as one group and waits for its own groups in
// order; the data of other threads need a SyncThreads after everybody's wait.

#include "kernels/cuda/device/simt.h"

namespace mea::cuda {

// How the second-level cache treats the bytes that a copy reads. Bytes that are read only once are
// evicted first.
struct CacheHint {
  uint64_t policy;
};
__device__ __forceinline__ CacheHint EvictFirst() {
  CacheHint hint;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(hint.policy));
  return hint;
}

// 16 bytes, both addresses 16-byte aligned.
__device__ __forceinline__ void CopyAsync16(void* shared, const void* global) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(SharedAddress(shared)),
               "l"(global)
               : "memory");
}
__device__ __forceinline__ void CopyAsync16(void* shared, const void* global, CacheHint hint) {
  asm volatile("cp.async.cg.shared.global.L2::cache_hint.L2::128B [%0], [%1], 16, %2;" ::"r"(
                   SharedAddress(shared)),
               "l"(global), "l"(hint.policy)
               : "memory");
}

// Writes zeros and reads nothing unless `valid`; `global` must be an aligned pointer even then.
__device__ __forceinline__ void CopyAsync16Zfill(void* shared, const void* global, bool valid) {
  asm volatile(
      "cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(SharedAddress(shared)),
      "l"(global), "r"(valid ? 16 : 0)
      : "memory");
}
__device__ __forceinline__ void CopyAsync16Zfill(void* shared, const void* global, bool valid,
                                                 CacheHint hint) {
  asm volatile("cp.async.cg.shared.global.L2::cache_hint.L2::128B [%0], [%1], 16, %2, %3;" ::"r"(
                   SharedAddress(shared)),
               "l"(global), "r"(valid ? 16 : 0), "l"(hint.policy)
               : "memory");
}

__device__ __forceinline__ void CommitCopies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits until at most the `kGroups` groups committed last are pending.
template <int kGroups>
__device__ __forceinline__ void WaitCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
}

}  // namespace mea::cuda
