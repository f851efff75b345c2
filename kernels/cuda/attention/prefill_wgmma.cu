// Flash attention on Hopper. A block has 64 rows for each of its consumers, a row being one query
// position of one query head, and all share the keys and values of one virtual head. Warpgroup 0 is
// the producer: one warp of it keeps a ring of slots filled by bulk copies. The others are the
// consumers. Each issues the scores of the next tokens before the product with the last values, so
// that its softmax runs during that product, and they issue one after the other, so that the
// softmax of one runs during the products of the others.
#include "kernels/cuda/attention/prefill_wgmma.h"

#include <limits>

#include "kernels/cuda/attention/prefill_producer.h"
#include "kernels/cuda/attention/prefill_row.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/mbarrier.h"
#include "kernels/cuda/device/simt.h"
#include "kernels/cuda/device/wgmma.h"

namespace mea::cuda {
namespace {

// A score that becomes a weight of zero whatever the maximum.
constexpr float kUnseenScore = -std::numeric_limits<float>::infinity();

// One warpgroup: 64 rows, of which a lane holds rows 16 * warp + lane / 4 and that plus 8.
template <int head_dim>
class Consumer {
  using S = PrefillShape<head_dim>;

 public:
  __device__ Consumer(const PrefillWork& work, int index)
      : params_(work.params),
        g_(work.g),
        tokens_(work.tokens),
        index_(index),
        thread_(static_cast<int>(threadIdx.x) % S::kGroupThreads),
        lane_(thread_ % kWarpSize),
        first_row_(work.first_row + index * S::kGroupRows),
        issue_parity_(index == 0 ? 1 : 0),
        scale_(params_.attention.scale * kLog2E),
        seen_by_all_(PrefillRow::AllSee(params_, g_, first_row_, S::kGroupRows)) {
#pragma unroll
    for (int i = 0; i < 2; ++i) visible_[i] = RowOf(i).visible;
  }

  __device__ __forceinline__ void Run() {
    LoadQueries();
    float s[S::kScores];
    float o[head_dim / 2] = {};
    uint32_t weights[S::kTokens / 16][4];
    float decay[2];
    IssueScores(s);
    WgmmaWait<0>(s);
    Release();
    Mask(tokens_.begin, s);
    Exponentiate(s, decay);
    Round(s, weights);
#pragma unroll 1
    for (int token = tokens_.begin + S::kTokens; token < tokens_.end; token += S::kTokens) {
      WaitToIssue();
      IssueScores(s);
      IssueValues(weights, o);
      LetNextIssue();
      WgmmaWait<1>(s);
      Release();
      Mask(token, s);
      Exponentiate(s, decay);
      // Waits for the next slot here: ptxas would put off the exponentials until the values are in,
      // but not beyond a loop.
      barriers_.WaitFull(read_);
      WgmmaWait<0>(o);
      Release();
#pragma unroll
      for (int e = 0; e < head_dim / 2; ++e) o[e] *= decay[e % 4 / 2];
      Round(s, weights);
    }
    IssueValues(weights, o);
    WgmmaWait<0>(o);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      WriteRow<head_dim>(params_.attention, RowOf(i), lane_, sum_[i],
                         [&](int b, int e) { return o[4 * b + 2 * i + e]; });
    }
  }

 private:
  __device__ PrefillRow RowOf(int i) const {
    const int row = thread_ / kWarpSize * 16 + lane_ / 4 + 8 * i;
    return PrefillRow::At(params_, g_, first_row_ + row);
  }

  __device__ std::byte* Queries() const {
    return DynamicShared() + S::kQueriesBegin + index_ * S::kQueryBytes;
  }

  // Rows behind the chunk repeat its last.
  __device__ void LoadQueries() const {
    constexpr int kGranules = head_dim / SlabLayout::kGranuleElements;
    constexpr int kLoads = S::kGroupRows * kGranules / S::kGroupThreads;
    auto* shared = reinterpret_cast<Bf16*>(Queries());
    const int element = thread_ % kGranules * SlabLayout::kGranuleElements;
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int row = (i * S::kGroupThreads + thread_) / kGranules;
      const PrefillRow source = PrefillRow::At(params_, g_, first_row_ + row);
      *reinterpret_cast<uint4*>(shared + SlabLayout::TileOffset(row, element)) =
          LoadGlobal128(params_.attention.Query(source.query, source.head) + element);
    }
    FenceProxyAsync();
    NamedBarrier(1 + index_, S::kGroupThreads);
  }

  // Consumers issue one after the other, the first one first.
  __device__ __forceinline__ void WaitToIssue() {
    Wait(S::MayIssue(index_), issue_parity_);
    issue_parity_ ^= 1;
  }
  __device__ __forceinline__ void LetNextIssue() const {
    if (lane_ == 0) Arrive(S::MayIssue(index_ + 1 < S::kConsumers ? index_ + 1 : 0));
    SyncWarp();
  }

  // s = q . k of the slot to be read next.
  __device__ __forceinline__ void IssueScores(float (&s)[S::kScores]) {
    barriers_.WaitFull(read_);
    const MatrixDescriptor q = Descriptor(Queries(), 0, 1024);
    const MatrixDescriptor keys = Descriptor(S::Memory(read_), 0, 1024);
    WgmmaFence(s);
#pragma unroll
    for (int k = 0; k < head_dim / 16; ++k) {
      WgmmaSS64<S::kTokens>(s, Advance(q, k / 4 * S::kQueryChunkBytes + k % 4 * 32),
                            Advance(keys, k / 4 * S::kChunkBytes + k % 4 * 32), k != 0);
    }
    WgmmaCommit();
    read_.Next();
  }

  // o += weights . v of the slot to be read next.
  __device__ __forceinline__ void IssueValues(uint32_t (&weights)[S::kTokens / 16][4],
                                              float (&o)[head_dim / 2]) {
    barriers_.WaitFull(read_);
    const MatrixDescriptor values = Descriptor(S::Memory(read_), S::kChunkBytes, 1024);
    WgmmaFence(o, weights);
#pragma unroll
    for (int k = 0; k < S::kTokens / 16; ++k) {
      WgmmaRS64<head_dim>(o, weights[k], Advance(values, k * 2048), true);
    }
    WgmmaCommit();
    read_.Next();
  }

  // This warp has read the oldest slot that it holds.
  __device__ __forceinline__ void Release() {
    if (lane_ == 0) barriers_.Release(release_);
    release_.Next();
    SyncWarp();
  }

  __device__ __forceinline__ void Mask(int token, float (&s)[S::kScores]) const {
    if (token >= seen_by_all_.begin && token + S::kTokens <= seen_by_all_.end) return;
#pragma unroll
    for (int e = 0; e < S::kScores; ++e) {
      const int t = token + e / 4 * 8 + lane_ % 4 * 2 + e % 2;
      const TokenRange visible = visible_[e % 4 / 2];
      if (t < visible.begin || t >= visible.end) s[e] = kUnseenScore;
    }
  }

  // Scores become weights relative to the new maximum; `decay` is what it makes of the old ones.
  // The first maximum is finite, so that rows which have seen nothing yet get weights of zero.
  __device__ __forceinline__ void Exponentiate(float (&s)[S::kScores], float (&decay)[2]) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float new_max = max_[i];
#pragma unroll
      for (int e = 0; e < S::kScores; ++e) {
        if (e % 4 / 2 == i) new_max = fmaxf(new_max, s[e]);
      }
      new_max = QuadMax(new_max);
      decay[i] = Exp2((max_[i] - new_max) * scale_);
      max_[i] = new_max;
      const float shift = new_max * scale_;
      sum_[i] *= decay[i];
#pragma unroll
      for (int e = 0; e < S::kScores; ++e) {
        if (e % 4 / 2 != i) continue;
        s[e] = Exp2(s[e] * scale_ - shift);
        sum_[i] += s[e];
      }
    }
  }

  // The accumulators of one product are, in pairs, the A of the next.
  __device__ __forceinline__ static void Round(const float (&s)[S::kScores],
                                               uint32_t (&weights)[S::kTokens / 16][4]) {
#pragma unroll
    for (int k = 0; k < S::kTokens / 16; ++k) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        weights[k][j] = PackBf16(s[8 * k + 2 * j], s[8 * k + 2 * j + 1]);
      }
    }
  }

  const PrefillParams& params_;
  const int g_;
  const TokenRange tokens_;
  const int index_;   // of the consumer
  const int thread_;  // of the warpgroup
  const int lane_;
  const int first_row_;
  int issue_parity_;
  const float scale_;  // of scores, to powers of two
  const TokenRange seen_by_all_;
  TokenRange visible_[2];                        // of the lane's rows, as max and sum
  float max_[2] = {kMaskedScore, kMaskedScore};  // of unscaled scores
  float sum_[2] = {0.0f, 0.0f};                  // of this lane's tokens
  const typename S::Barriers barriers_ = S::RingBarriers();
  typename S::Slot read_;
  typename S::Slot release_;
};

template <int head_dim>
__global__ void __launch_bounds__(PrefillShape<head_dim>::kThreads, 1)
    PrefillWgmma(const __grid_constant__ PrefillParams params) {
  using S = PrefillShape<head_dim>;
  if (threadIdx.x == 0) {
    for (int i = 0; i < S::kConsumers; ++i) Init(S::MayIssue(i), S::kGroupWarps);
    S::RingBarriers().Init(S::kConsumers * S::kGroupWarps);
  }
  SyncThreads();
  WaitForPrevious();
  LetNextStart();
  const int g = static_cast<int>(blockIdx.y);
  // The last rows see most tokens: the longest work starts first.
  const int first_row = static_cast<int>(gridDim.x - 1 - blockIdx.x) * S::kRows;
  const TokenRange seen = PrefillRow::AnySees(params, g, first_row, S::kRows);
  const PrefillWork work = {params, g, first_row, {seen.begin / S::kTokens * S::kTokens, seen.end}};
  const int group = static_cast<int>(threadIdx.x) / S::kGroupThreads;
  if (group == 0) {
    SetMaxRegistersDec<S::kProducerRegisters>();
    if (threadIdx.x < kWarpSize) PrefillProducer<head_dim>(work).Run();
  } else {
    SetMaxRegistersInc<S::kConsumerRegisters>();
    Consumer<head_dim>(work, group - 1).Run();
  }
}

template <int head_dim>
cudaError_t LaunchHeadDim(const PrefillParams& params, cudaStream_t stream) {
  using S = PrefillShape<head_dim>;
  const int num_blocks = (params.num_rows() + S::kRows - 1) / S::kRows;
  return Launch({.grid = dim3(static_cast<unsigned>(num_blocks),
                              static_cast<unsigned>(params.attention.kv_heads)),
                 .block = dim3(S::kThreads),
                 .shared_bytes = S::kSharedBytes,
                 .stream = stream,
                 .overlaps_previous = true},
                PrefillWgmma<head_dim>, params);
}

}  // namespace

cudaError_t LaunchPrefillWgmma(const PrefillParams& params, cudaStream_t stream) {
  if (params.attention.head_dim == 64) return LaunchHeadDim<64>(params, stream);
  return LaunchHeadDim<128>(params, stream);
}

}  // namespace mea::cuda
