#pragma once

// Stands for kernels/cuda/device/async_copy.h when kernels are compiled for the CPU: the bytes land
// in the WaitCopies that guarantees them, and the destination is poisoned until then.

#include "kernels/cuda/device/simt.h"
#include "tests/simt/copies.h"

namespace mea::cuda {

struct CacheHint {};
inline CacheHint EvictFirst() { return {}; }

inline void CopyAsync16(void* shared, const void* global,
                        simt::Where where = simt::Where::current()) {
  simt::Block::Current().Get<simt::Copies>().Issue(shared, global, /*valid=*/true, where);
}
inline void CopyAsync16(void* shared, const void* global, CacheHint,
                        simt::Where where = simt::Where::current()) {
  CopyAsync16(shared, global, where);
}
inline void CopyAsync16Zfill(void* shared, const void* global, bool valid,
                             simt::Where where = simt::Where::current()) {
  simt::Block::Current().Get<simt::Copies>().Issue(shared, global, valid, where);
}
inline void CopyAsync16Zfill(void* shared, const void* global, bool valid, CacheHint,
                             simt::Where where = simt::Where::current()) {
  CopyAsync16Zfill(shared, global, valid, where);
}
inline void CommitCopies(simt::Where where = simt::Where::current()) {
  if (simt::IsOmitted("CommitCopies", where)) return;
  simt::Block::Current().Get<simt::Copies>().Commit();
}
template <int kGroups>
void WaitCopies(simt::Where where = simt::Where::current()) {
  if (simt::IsOmitted("WaitCopies", where)) return;
  simt::Block::Current().Get<simt::Copies>().Wait(kGroups);
}

}  // namespace mea::cuda
