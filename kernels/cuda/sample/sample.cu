#include "kernels/cuda/sample/sample.h"

#include <algorithm>
#include <limits>

#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/simt.h"
#include "kernels/cuda/sample/selection.h"
#include "kernels/cuda/vector8.h"

namespace mea::cuda {
namespace {

constexpr int kMaxThreads = kMaxWarps * kWarpSize;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

__device__ SampleScratch& Scratch() { return *reinterpret_cast<SampleScratch*>(DynamicShared()); }

// The row after its edits and its mask, if it has one.
__device__ void EditRow(const float* logits, int vocab, const SampleRow& row,
                        const LogitEdit* edits, const uint32_t* mask, float* edited) {
  const auto can_be_drawn = [mask](int id) {
    return mask == nullptr || (mask[id / kMaskBits] >> (id % kMaskBits) & 1) != 0;
  };
  for (int i = threadIdx.x; i < vocab; i += static_cast<int>(blockDim.x)) {
    edited[i] = row.restricted != 0 || !can_be_drawn(i) ? kImpossible : logits[i];
  }
  SyncThreads();
  const int first = row.edits_begin + static_cast<int>(threadIdx.x);
  for (int i = first; i < row.edits_end; i += static_cast<int>(blockDim.x)) {
    if (!can_be_drawn(edits[i].token_id)) continue;
    edited[edits[i].token_id] = WithBiasAndRepetition(logits[edits[i].token_id], edits[i]);
  }
  SyncThreads();  // through memory, so that the product is rounded
  for (int i = first; i < row.edits_end; i += static_cast<int>(blockDim.x)) {
    edited[edits[i].token_id] = WithPenalty(edited[edits[i].token_id], edits[i]);
  }
  SyncThreads();
}

// Gathers the best of `row` (its distances) in the list, at least `count` of them, in the order of
// their ids, and returns the list; or `row` itself where they are too many.
__device__ Source ShortList(SampleScratch& scratch, const Source& row, uint32_t best_of_thread,
                            uint64_t count) {
  if (count > blockDim.x && row.size > kListCapacity) return row;
  const float bound = FromOrderKey(BoundOfBest(scratch, best_of_thread, count));
  const uint32_t distance = row.KeyOf(bound);  // kNoCandidate where the bound is no number
  const Measure kept{.key = distance < kNoKey ? distance : kNoKey - 1};
  const int size = Gather(scratch, row, kept, [](int id, uint32_t key) {
    return Join(key, static_cast<uint32_t>(id));
  });
  if (size > kListCapacity) return row;
  BlockSort(scratch.list, size);
  return {.keys = Source::Keys::kList, .size = size, .list = scratch.list};
}

// The draw of kernels/draw.h. `values` is finite at its best.
__device__ int Draw(SampleScratch& scratch, const SampleRow& row, const Source& values,
                    const Best& best) {
  Source all = values;
  all.keys = Source::Keys::kDistance;
  all.best = best.value;
  all.scale = DistanceScale(row.temperature);

  // Filters look at the best alone, as long as those are few.
  Source source = all;
  const bool top_k = row.top_k > 0;
  const bool top_p = row.top_p < 1;
  if (top_k || top_p) {
    source = ShortList(scratch, all, best.of_thread, top_k ? row.top_k : blockDim.x / 2);
  }
  Prefix prefix;
  if (top_k) prefix = Select<By::kCount>(scratch, source, row.top_k);
  if (top_p) {
    const Source& shared_out = top_k ? source : all;
    const uint64_t total = Sum(scratch, shared_out, WeightsOf(scratch, shared_out, prefix));
    const uint64_t wanted = TopPWeight(row.top_p, total);
    if (!top_k && Sum(scratch, source, Measure{}) < wanted) source = all;
    prefix = Select<By::kWeight>(scratch, source, wanted);
  }
  Measure weights = WeightsOf(scratch, source, prefix);
  weights.least = MinPWeight(row.min_p);
  const uint64_t total = Sum(scratch, source, weights);
  const int index = FindIndex(scratch, source, weights, DrawnPoint(row, total) + 1);
  if (source.keys != Source::Keys::kList) return index;
  return static_cast<int>(scratch.list[index] >> 32);
}

// The log-probability of token.token_id and the `count` most likely tokens, best first, from the
// model's own logits.
__device__ void ReportLogprobs(SampleScratch& scratch, const Source& logits, const Best& likeliest,
                               int count, SampledToken& token) {
  const double log_sum = LogSumExp(scratch, logits, likeliest.value);
  if (threadIdx.x == 0) {
    token.logprob = static_cast<float>(logits.values[token.token_id] - log_sum);
  }
  if (count == 0) return;
  const auto entry = [](int id, uint32_t key) { return Join(static_cast<uint32_t>(id), key); };
  const uint32_t bound = BoundOfBest(scratch, likeliest.of_thread, count);
  int size = Gather(scratch, logits, Measure{.key = bound}, entry);
  if (size > kListCapacity) {
    const Prefix prefix = Select<By::kCount>(scratch, logits, count);
    size = Gather(scratch, logits, WeightsOf(scratch, logits, prefix), entry);
  }
  BlockSort(scratch.list, size);
  const int i = threadIdx.x;
  if (i >= count) return;
  const int id = static_cast<int>(static_cast<uint32_t>(scratch.list[i]));
  reinterpret_cast<int32_t*>(&token.top_ids)[i] = id;
  reinterpret_cast<float*>(&token.top_logprobs)[i] =
      static_cast<float>(logits.values[id] - log_sum);
}

// One block per row. Reads the row two or three times: for its best, to gather the short list of a
// filter, and for its total weight; once more for log-probabilities and once more for the top ones.
__global__ void __launch_bounds__(kMaxThreads)
    SampleKernel(const __grid_constant__ SampleParams p, bool is_aligned) {
  SampleScratch& scratch = Scratch();
  const int64_t r = blockIdx.x;
  WaitForPrevious();
  LetNextStart();
  const SampleRow row = p.rows[r];
  SampledToken& token = p.tokens[r];
  const Source logits{.keys = Source::Keys::kOrder,
                      .size = p.vocab,
                      .values = p.logits + r * p.logits_stride,
                      .is_aligned = is_aligned};
  const Best likeliest = FindBest(scratch, logits);
  if (threadIdx.x == 0) {
    token.is_finite = likeliest.all_finite ? 1 : 0;
    token.token_id = 0;  // the next step may look it up before anybody has looked at is_finite
  }
  if (!likeliest.all_finite) return;

  Source edited = logits;
  Best best = likeliest;
  if (row.edits_end > row.edits_begin || row.mask >= 0) {
    float* values = p.edited + r * p.vocab;
    const uint32_t* mask = row.mask < 0 ? nullptr : p.masks + row.mask * MaskWords(p.vocab);
    EditRow(logits.values, p.vocab, row, p.edits, mask, values);
    edited.values = values;
    edited.is_aligned = is_aligned && p.vocab % 4 == 0;
    best = FindBest(scratch, edited);
  }
  const bool is_drawn = row.temperature != 0 && IsFiniteKey(OrderKey(best.value));
  const int token_id = is_drawn ? Draw(scratch, row, edited, best) : best.index;
  if (threadIdx.x == 0) token.token_id = token_id;
  const int most = p.vocab < kMaxTopLogprobs ? p.vocab : kMaxTopLogprobs;
  const int num_top = row.num_top < most ? row.num_top : most;
  if (num_top >= 0) ReportLogprobs(scratch, logits, likeliest, num_top, token);
}

__global__ void __launch_bounds__(kMaxThreads)
    TokenLogprobsKernel(const __grid_constant__ TokenLogprobsParams p, bool is_aligned) {
  const int64_t r = blockIdx.x;
  WaitForPrevious();
  LetNextStart();
  const int target = p.targets[r];
  if (target < 0) return;
  const Source logits{.keys = Source::Keys::kOrder,
                      .size = p.vocab,
                      .values = p.logits + r * p.logits_stride,
                      .is_aligned = is_aligned};
  const Best best = FindBest(Scratch(), logits);
  const double log_sum = LogSumExp(Scratch(), logits, best.value);
  if (threadIdx.x != 0) return;
  p.logprobs[r] = best.all_finite ? static_cast<float>(logits.values[target] - log_sum) : kNan;
}

LaunchConfig OneBlockPerRow(int num_rows, int vocab, cudaStream_t stream) {
  const int chunks = (vocab + kChunk - 1) / kChunk;
  return {.grid = dim3(num_rows),
          .block = dim3(std::min(kMaxThreads, chunks * kWarpSize)),
          .shared_bytes = static_cast<int>(sizeof(SampleScratch)),
          .stream = stream,
          .overlaps_previous = true};
}

}  // namespace

cudaError_t LaunchSample(const SampleParams& p, cudaStream_t stream) {
  if (p.num_rows == 0) return cudaSuccess;
  if (p.vocab <= 0 || p.vocab > kMaxSampleVocab) return cudaErrorInvalidValue;
  return Launch(OneBlockPerRow(p.num_rows, p.vocab, stream), SampleKernel, p,
                StartAligned(p.logits, p.logits_stride));
}

cudaError_t LaunchTokenLogprobs(const TokenLogprobsParams& p, cudaStream_t stream) {
  if (p.num_rows == 0) return cudaSuccess;
  if (p.vocab <= 0 || p.vocab > kMaxSampleVocab) return cudaErrorInvalidValue;
  return Launch(OneBlockPerRow(p.num_rows, p.vocab, stream), TokenLogprobsKernel, p,
                StartAligned(p.logits, p.logits_stride));
}

}  // namespace mea::cuda
