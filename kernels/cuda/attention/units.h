#pragma once

#include "kernels/cuda/attention/work_list.h"

namespace mea::cuda {

// What a persistent block does: one part of each of its column's items [begin, end); see
// work_list.h.
struct Units {
  int part;
  int begin;
  int end;

  __device__ Units(const WorkList& list, int parts)
      : part(static_cast<int>(blockIdx.x) % parts),
        begin(list.column_begin[static_cast<int>(blockIdx.x) / parts]),
        end(list.column_begin[static_cast<int>(blockIdx.x) / parts + 1]) {}
};

}  // namespace mea::cuda
