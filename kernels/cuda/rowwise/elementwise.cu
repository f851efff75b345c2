#include <algorithm>

#include "kernels/cuda/activation.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/simt.h"
#include "kernels/cuda/rowwise/rowwise.h"
#include "kernels/cuda/vector8.h"

namespace mea::cuda {
namespace {

constexpr int kMaxThreads = 256;

// Element 0 of this thread's eight: blocks along x are rows, along y stretches of columns.
__device__ __forceinline__ int Column() {
  return static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x) * kVectorElements;
}

LaunchConfig RowsTimesColumns(int num_rows, int num_columns, cudaStream_t stream) {
  const int vectors = (num_columns + kVectorElements - 1) / kVectorElements;
  const int threads = std::min(kMaxThreads, (vectors + kWarpSize - 1) / kWarpSize * kWarpSize);
  return {.grid = dim3(num_rows, (vectors + threads - 1) / threads),
          .block = dim3(threads),
          .stream = stream,
          .overlaps_previous = true};
}

// Bytes: 2 (table) + 4 (out) per element.
template <bool kAligned>
__global__ void __launch_bounds__(kMaxThreads) EmbedKernel(const __grid_constant__ EmbedParams p) {
  const int i = Column();
  WaitForPrevious();
  LetNextStart();
  if (i >= p.hidden) return;
  const int64_t row = blockIdx.x;
  const int32_t id = p.ids[row];
  const int32_t token = id >= 0 ? id : p.drawn[-1 - id].token_id;
  Vector8 x = Load8<kAligned>(p.table + token * p.table_stride + i, p.hidden - i);
  for (int e = 0; e < kVectorElements; ++e) x.at[e] *= p.scale;
  Store8<kAligned>(p.out + row * p.out_stride + i, p.hidden - i, x);
}

// out = f(gate) * up. Bytes: 6 per element.
template <bool kAligned, typename F>
__device__ __forceinline__ void Gate(const GateParams& p, F f) {
  const int i = Column();
  WaitForPrevious();
  LetNextStart();
  if (i >= p.width) return;
  const int64_t row = blockIdx.x;
  Vector8 x = Load8<kAligned>(p.gate + row * p.gate_stride + i, p.width - i);
  const Vector8 up = Load8<kAligned>(p.up + row * p.up_stride + i, p.width - i);
  for (int e = 0; e < kVectorElements; ++e) x.at[e] = f(x.at[e]) * up.at[e];
  Store8<kAligned>(p.out + row * p.out_stride + i, p.width - i, x);
}

template <bool kAligned>
__global__ void __launch_bounds__(kMaxThreads) SwiGluKernel(const __grid_constant__ GateParams p) {
  Gate<kAligned>(p, [](float g) { return Silu(g); });
}

template <bool kAligned>
__global__ void __launch_bounds__(kMaxThreads) GeGluKernel(const __grid_constant__ GateParams p) {
  Gate<kAligned>(p, [](float g) { return GeluTanh(g); });
}

template <bool kAligned>
__global__ void __launch_bounds__(kMaxThreads)
    SigmoidGateKernel(const __grid_constant__ GateParams p, float scale) {
  Gate<kAligned>(p, [scale](float g) { return scale * Sigmoid(g); });
}

// A thread has eight elements of one head of the result. Bytes: the heads of x once per head of the
// result, all but the first from the caches.
template <bool kAligned>
__global__ void __launch_bounds__(kMaxThreads)
    MixHeadsKernel(const __grid_constant__ MixHeadsParams p) {
  const int vectors = (p.head_dim + kVectorElements - 1) / kVectorElements;
  const int index = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x);
  const int head = index / vectors;
  const int i = index % vectors * kVectorElements;
  WaitForPrevious();
  LetNextStart();
  if (head >= p.out_heads) return;
  const int64_t token = blockIdx.x;
  const Bf16* x = p.x + token * p.x_stride + i;
  Vector8 sum = {};
  for (int c = 0; c < p.in_heads; ++c) {
    const float weight = p.mix[c * p.out_heads + head];
    const Vector8 v = Load8<kAligned>(x + c * p.head_dim, p.head_dim - i);
    for (int e = 0; e < kVectorElements; ++e) sum.at[e] += weight * v.at[e];
  }
  Store8<kAligned>(p.out + token * p.out_stride + head * p.head_dim + i, p.head_dim - i, sum);
}

// Bytes: 4 per element.
template <bool kAligned>
__global__ void __launch_bounds__(kMaxThreads)
    GatherRowsKernel(const __grid_constant__ GatherRowsParams p) {
  const int i = Column();
  WaitForPrevious();
  LetNextStart();
  if (i >= p.hidden) return;
  const int64_t row = blockIdx.x;
  const Bf16* source = p.x + p.rows[row] * p.x_stride + i;
  Store8<kAligned>(p.out + row * p.out_stride + i, p.hidden - i,
                   Load8<kAligned>(source, p.hidden - i));
}

bool IsAligned(const GateParams& p) {
  return p.width % kVectorElements == 0 && StartAligned(p.gate, p.gate_stride) &&
         StartAligned(p.up, p.up_stride) && StartAligned(p.out, p.out_stride);
}

// The one kernel where rows are aligned, the other where not.
template <typename Kernel, typename... More>
cudaError_t LaunchGate(Kernel aligned, Kernel unaligned, const GateParams& p, cudaStream_t stream,
                       More... more) {
  if (p.num_tokens == 0) return cudaSuccess;
  const LaunchConfig config = RowsTimesColumns(p.num_tokens, p.width, stream);
  return Launch(config, IsAligned(p) ? aligned : unaligned, p, more...);
}

}  // namespace

cudaError_t LaunchEmbed(const EmbedParams& p, cudaStream_t stream) {
  if (p.num_tokens == 0) return cudaSuccess;
  const bool aligned = p.hidden % kVectorElements == 0 && StartAligned(p.table, p.table_stride) &&
                       StartAligned(p.out, p.out_stride);
  const LaunchConfig config = RowsTimesColumns(p.num_tokens, p.hidden, stream);
  return Launch(config, aligned ? EmbedKernel<true> : EmbedKernel<false>, p);
}

cudaError_t LaunchSwiGlu(const GateParams& p, cudaStream_t stream) {
  return LaunchGate(SwiGluKernel<true>, SwiGluKernel<false>, p, stream);
}

cudaError_t LaunchGeGlu(const GateParams& p, cudaStream_t stream) {
  return LaunchGate(GeGluKernel<true>, GeGluKernel<false>, p, stream);
}

cudaError_t LaunchSigmoidGate(const GateParams& p, float scale, cudaStream_t stream) {
  return LaunchGate(SigmoidGateKernel<true>, SigmoidGateKernel<false>, p, stream, scale);
}

cudaError_t LaunchMixHeads(const MixHeadsParams& p, cudaStream_t stream) {
  if (p.num_tokens == 0) return cudaSuccess;
  const bool aligned = p.head_dim % kVectorElements == 0 && StartAligned(p.x, p.x_stride) &&
                       StartAligned(p.out, p.out_stride);
  // As many threads as eight elements each of all heads need.
  const int vectors = (p.head_dim + kVectorElements - 1) / kVectorElements;
  const LaunchConfig config =
      RowsTimesColumns(p.num_tokens, p.out_heads * vectors * kVectorElements, stream);
  return Launch(config, aligned ? MixHeadsKernel<true> : MixHeadsKernel<false>, p);
}

cudaError_t LaunchGatherRows(const GatherRowsParams& p, cudaStream_t stream) {
  if (p.num_rows == 0) return cudaSuccess;
  const bool aligned = p.hidden % kVectorElements == 0 && StartAligned(p.x, p.x_stride) &&
                       StartAligned(p.out, p.out_stride);
  const LaunchConfig config = RowsTimesColumns(p.num_rows, p.hidden, stream);
  return Launch(config, aligned ? GatherRowsKernel<true> : GatherRowsKernel<false>, p);
}

}  // namespace mea::cuda
