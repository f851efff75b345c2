#pragma once

// Stands for kernels/cuda/device/mbarrier.h when kernels are compiled for the CPU.

#include "kernels/cuda/device/simt.h"
#include "tests/simt/async_view.h"
#include "tests/simt/bulk.h"

namespace mea::cuda {

using MBarrier = uint64_t;

enum class CachePolicy { kNormal, kEvictFirst };

inline void Init(MBarrier* barrier, int count, simt::Where where = simt::Where::current()) {
  simt::Block::Current().Get<simt::Bulk>().Init(barrier, count, where);
}
inline void FenceInit(simt::Where where = simt::Where::current()) {
  if (!simt::IsOmitted("FenceInit", where)) simt::Block::Current().Get<simt::Bulk>().Fence();
}
// Omitted, it arrives and announces nothing.
inline void ArriveExpect(MBarrier* barrier, int bytes, simt::Where where = simt::Where::current()) {
  if (simt::IsOmitted("ArriveExpect", where)) bytes = 0;
  simt::Block::Current().Get<simt::Bulk>().Arrive(barrier, bytes, where);
}
inline void Arrive(MBarrier* barrier, simt::Where where = simt::Where::current()) {
  if (simt::IsOmitted("Arrive", where)) return;
  simt::Block::Current().Get<simt::Bulk>().Arrive(barrier, 0, where);
}
inline void Wait(MBarrier* barrier, int parity, simt::Where where = simt::Where::current()) {
  if (simt::IsOmitted("Wait", where)) return;
  simt::Block::Current().Get<simt::Bulk>().Wait(barrier, parity, where);
}
inline void BulkCopy(void* shared, const void* global, int bytes, MBarrier* barrier,
                     CachePolicy = CachePolicy::kNormal,
                     simt::Where where = simt::Where::current()) {
  simt::Block::Current().Get<simt::Bulk>().Copy(shared, global, bytes, barrier, where);
}
inline void FenceProxyAsync(simt::Where where = simt::Where::current()) {
  if (simt::IsOmitted("FenceProxyAsync", where)) return;
  simt::Block::Current().Get<simt::Bulk>().Fence();
  simt::Block::Current().Get<simt::AsyncView>().Fence();
}

}  // namespace mea::cuda
