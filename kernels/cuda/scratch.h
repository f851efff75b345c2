#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "kernels/cuda/attention/attention.h"
#include "kernels/cuda/carver.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/moe/moe.h"
#include "kernels/cuda/sample_queue.h"
#include "kernels/cuda_module.h"

namespace mea::cuda {

// The number of rows that a decode step is padded to: 1, 2, 4, 8 and multiples of 8.
int PadRows(int num_rows);

// The memory of the back end for a model within `limits`. A function of these three arguments only,
// so it is known without a device.
struct ScratchPlan {
  BackendLimits limits;
  AttentionPlan attention;
  int64_t product_bytes = 0;  // that cuBLASLt may use
  int64_t device_bytes = 0;
  int64_t host_bytes = 0;   // pinned
  int64_t graph_bytes = 0;  // of the graphs of all sizes of a decode step: an estimate
};
// INVALID_ARGUMENT names what the kernels do not support.
absl::StatusOr<ScratchPlan> PlanScratch(const BackendLimits& limits, const CudaOptions& options,
                                        const CudaDeviceInfo& device);

// How the rows of a step go to their experts.
struct MoeScratch {
  int max_slots = 0;
  int num_experts = 0;
  float* logits = nullptr;    // [max_rows, num_experts]
  int32_t* chosen = nullptr;  // [max_slots], as all but the last
  float* gates = nullptr;
  int32_t* order = nullptr;
  ExpertTile* tiles = nullptr;   // [ExpertTileRoom]
  int32_t* num_tiles = nullptr;  // [1]
};

// The layout of the scratch memory.
struct Scratch {
  Gemm::Scratch gemm;
  MoeScratch moe;
  SampleQueue::Scratch sample;
  std::byte* attention = nullptr;
};
Scratch CarveScratch(const ScratchPlan& plan, Carver& device, Carver& host);

// PlanScratch as the module exports it.
absl::StatusOr<BackendBytes> PlannedBytes(const BackendLimits& limits, const CudaOptions& options,
                                          const CudaDeviceInfo& device);

}  // namespace mea::cuda
