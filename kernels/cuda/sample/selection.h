#pragma once

// The best elements of a row without sorting it. Every element has a 32-bit key, smaller is better;
// a prefix of the order (key, index) is found by radix: 11, 11 and 10 bits at a time. Sums are of
// integers and therefore the same in every order.

#include "kernels/cuda/device/simt.h"
#include "kernels/cuda/sample/block.h"
#include "kernels/draw.h"

namespace mea::cuda {

inline constexpr int kChunk = 1024;  // elements that a warp visits in one go
inline constexpr int kMaxChunks = kMaxSampleVocab / kChunk;
inline constexpr int kListCapacity = 2048;
inline constexpr int kMaxBins = 2048;
inline constexpr uint32_t kNoKey = kNoCandidate;

struct SampleScratch {
  uint64_t list[kListCapacity];
  uint64_t chunk_sums[kMaxChunks];
  uint32_t bins_low[kMaxBins];
  uint32_t bins_high[kMaxBins];
  BlockScratch block;
  uint32_t list_size;
};

// Falls as the number rises; equal numbers (0 and -0) have equal keys. NaN is at either end.
__device__ __forceinline__ uint32_t OrderKey(float x) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, x + 0.0f);
  return (bits & 0x80000000u) != 0 ? bits : ~(bits | 0x80000000u);
}
__device__ __forceinline__ float FromOrderKey(uint32_t key) {
  return __builtin_bit_cast(float, (key & 0x80000000u) != 0 ? key : ~key & 0x7fffffffu);
}
// Whether the number of this key is finite.
__device__ __forceinline__ bool IsFiniteKey(uint32_t key) {
  return key >= 0x00800000u && key < 0xff800000u;
}

// Where the keys come from.
struct Source {
  enum class Keys {
    kOrder,     // OrderKey of each value
    kDistance,  // Distance of each value from `best`
    kList,      // the low half of each entry of `list`
  };
  Keys keys;
  int size;
  const float* values = nullptr;
  bool is_aligned = false;  // values on a 16-byte boundary
  float best = 0;
  float scale = 0;
  const uint64_t* list = nullptr;

  __device__ uint32_t KeyOf(float value) const {
    return keys == Keys::kOrder ? OrderKey(value) : Distance(best, value, scale);
  }
  // kNoKey beyond the end.
  __device__ uint32_t Key(int index) const {
    if (index >= size) return kNoKey;
    return keys == Keys::kList ? static_cast<uint32_t>(list[index]) : KeyOf(values[index]);
  }
  __device__ int num_chunks() const { return (size + kChunk - 1) / kChunk; }
};

// visit(index, key) of every element of the warp's chunk `chunk`, kNoKey beyond the end.
template <class Visit>
__device__ __forceinline__ void ForChunk(const Source& source, int chunk, Visit visit) {
  constexpr int kGroups = 4;  // loads of 16 bytes in flight per thread
  constexpr int kStep = kWarpSize * 4;
  const int lane = threadIdx.x % kWarpSize;
  for (int begin = chunk * kChunk; begin < (chunk + 1) * kChunk; begin += kGroups * kStep) {
    if (begin >= source.size) return;
    const int first = begin + lane * 4;
    if (!source.is_aligned || begin + kGroups * kStep > source.size) {
      for (int g = 0; g < kGroups; ++g) {
        for (int e = 0; e < 4; ++e) {
          visit(first + g * kStep + e, source.Key(first + g * kStep + e));
        }
      }
      continue;
    }
    float4 v[kGroups];
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      v[g] = *reinterpret_cast<const float4*>(source.values + first + g * kStep);
    }
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      visit(first + g * kStep, source.KeyOf(v[g].x));
      visit(first + g * kStep + 1, source.KeyOf(v[g].y));
      visit(first + g * kStep + 2, source.KeyOf(v[g].z));
      visit(first + g * kStep + 3, source.KeyOf(v[g].w));
    }
  }
}

// ForChunk over all chunks, which the warps share.
template <class Visit>
__device__ __forceinline__ void ForAll(const Source& source, Visit visit) {
  const int num_warps = blockDim.x / kWarpSize;
  for (int chunk = threadIdx.x / kWarpSize; chunk < source.num_chunks(); chunk += num_warps) {
    ForChunk(source, chunk, visit);
  }
}

// A prefix of the order (key, index): every element below `key`, and the first `ties` with it.
struct Prefix {
  static constexpr uint64_t kAllTies = ~uint64_t{0};
  uint32_t key = kNoKey - 1;
  uint64_t ties = kAllTies;
};

enum class By { kCount, kWeight };

__device__ __forceinline__ void AddToBin(SampleScratch& scratch, uint32_t bin, uint64_t value) {
  const uint32_t low = static_cast<uint32_t>(value);
  const uint32_t old = AtomicAdd(&scratch.bins_low[bin], low);
  const uint32_t high = static_cast<uint32_t>(value >> 32) + (old + low < old ? 1 : 0);
  if (high != 0) AtomicAdd(&scratch.bins_high[bin], high);
}

// The shortest prefix with `wanted` elements, or whose elements have the weight `wanted`; all
// elements if there are fewer. There must be at least one element, and by weight at least one of
// positive weight.
template <By kBy>
__device__ Prefix Select(SampleScratch& scratch, const Source& source, uint64_t wanted) {
  uint32_t known = 0;    // bits of the last key that are decided
  uint32_t decided = 0;  // and their values
  uint64_t value = 0;    // of the elements that agree with them
  constexpr int kShifts[] = {21, 10, 0};
  for (const int shift : kShifts) {
    const int num_bins = shift == 0 ? 1024 : 2048;
    for (int bin = threadIdx.x; bin < num_bins; bin += static_cast<int>(blockDim.x)) {
      scratch.bins_low[bin] = scratch.bins_high[bin] = 0;
    }
    SyncThreads();
    ForAll(source, [&](int, uint32_t key) {
      if (key == kNoKey || (key & known) != decided) return;
      AddToBin(scratch, key >> shift & (num_bins - 1), kBy == By::kCount ? 1 : Weight(key));
    });
    SyncThreads();
    const Crossing crossing = FindCrossing(scratch.block, num_bins, wanted, [&scratch](int bin) {
      return Join(scratch.bins_low[bin], scratch.bins_high[bin]);
    });
    decided |= static_cast<uint32_t>(crossing.index) << shift;
    known |= static_cast<uint32_t>(num_bins - 1) << shift;
    value = crossing.value;
    wanted -= crossing.before;
    // If the whole bin is wanted, nothing is left to decide.
    if (kBy == By::kCount && wanted >= value) {
      const uint32_t last = decided | ~known;
      return {last < kNoKey ? last : kNoKey - 1, Prefix::kAllTies};
    }
  }
  if constexpr (kBy == By::kCount) return {decided, wanted};
  const uint64_t weight = Weight(decided);
  const uint64_t ties = (wanted + weight - 1) / weight;
  return {decided, ties * weight >= value ? Prefix::kAllTies : ties};
}

// How an element is counted.
struct Measure {
  enum class Of { kWeights, kTies };
  Of of = Of::kWeights;
  uint32_t key = kNoKey - 1;         // kTies: 1 for elements of this key
  int last_index = kMaxSampleVocab;  // kWeights: the last with this key that counts; none above it
  uint64_t least = 0;                // kWeights: lighter elements do not count

  __device__ bool Keeps(int index, uint32_t k) const {
    return k < key || (k == key && index <= last_index);
  }
  __device__ uint64_t operator()(int index, uint32_t k) const {
    if (of == Of::kTies) return k == key ? 1 : 0;
    if (!Keeps(index, k)) return 0;
    const uint64_t weight = Weight(k);
    return weight >= least ? weight : 0;
  }
};

// The sum over all elements; leaves that of each chunk in chunk_sums.
__device__ inline uint64_t Sum(SampleScratch& scratch, const Source& source,
                               const Measure& measure) {
  const int num_warps = blockDim.x / kWarpSize;
  for (int chunk = threadIdx.x / kWarpSize; chunk < source.num_chunks(); chunk += num_warps) {
    uint64_t sum = 0;
    ForChunk(source, chunk, [&](int index, uint32_t key) { sum += measure(index, key); });
    sum = WarpSum(sum);
    if (threadIdx.x % kWarpSize == 0) scratch.chunk_sums[chunk] = sum;
  }
  SyncThreads();
  uint64_t total = 0;
  for (int chunk = threadIdx.x; chunk < source.num_chunks();
       chunk += static_cast<int>(blockDim.x)) {
    total += scratch.chunk_sums[chunk];
  }
  return BlockSum(scratch.block, total);
}

// After Sum of the same: the first index at which the running sum reaches `mark`.
__device__ inline int FindIndex(SampleScratch& scratch, const Source& source,
                                const Measure& measure, uint64_t mark) {
  const Crossing chunk = FindCrossing(scratch.block, source.num_chunks(), mark,
                                      [&scratch](int i) { return scratch.chunk_sums[i]; });
  const int begin = chunk.index * kChunk;
  return begin + FindCrossing(scratch.block, kChunk, mark - chunk.before, [&](int i) {
                   return measure(begin + i, source.Key(begin + i));
                 }).index;
}

// The measure that weighs the elements of a prefix.
__device__ inline Measure WeightsOf(SampleScratch& scratch, const Source& source,
                                    const Prefix& prefix) {
  Measure weights{.key = prefix.key};
  if (prefix.ties != Prefix::kAllTies) {
    const Measure ties{.of = Measure::Of::kTies, .key = prefix.key};
    Sum(scratch, source, ties);
    weights.last_index = FindIndex(scratch, source, ties, prefix.ties);
  }
  return weights;
}

// Gathers the elements that `kept` keeps in the list, as entry(index, key), in no order. Returns
// their number; if that exceeds kListCapacity, some are missing.
template <class Entry>
__device__ int Gather(SampleScratch& scratch, const Source& source, const Measure& kept,
                      Entry entry) {
  SyncThreads();
  if (threadIdx.x == 0) scratch.list_size = 0;
  SyncThreads();
  ForAll(source, [&](int index, uint32_t key) {
    if (key == kNoKey || !kept.Keeps(index, key)) return;
    const uint32_t place = AtomicAdd(&scratch.list_size, 1u);
    if (place < kListCapacity) scratch.list[place] = entry(index, key);
  });
  SyncThreads();
  return static_cast<int>(scratch.list_size);
}

// A key that at least `count` elements reach (or all, if there are fewer), and seldom many more:
// the count-th best of the threads' best keys. Costs no pass over the elements.
__device__ inline uint32_t BoundOfBest(SampleScratch& scratch, uint32_t best_of_thread,
                                       uint64_t count) {
  SyncThreads();
  scratch.list[threadIdx.x] = best_of_thread;
  SyncThreads();
  const Source bests{
      .keys = Source::Keys::kList, .size = static_cast<int>(blockDim.x), .list = scratch.list};
  const uint64_t given =
      BlockSum(scratch.block, best_of_thread != kNoKey ? uint64_t{1} : uint64_t{0});
  if (given < count) return kNoKey - 1;
  return Select<By::kCount>(scratch, bests, count).key;
}

struct Best {
  int index;
  float value;
  bool all_finite;     // no value of the row is infinite or NaN
  uint32_t of_thread;  // the best key that this thread has seen
};

// The best of a source with order keys; the lowest index among equals.
__device__ inline Best FindBest(SampleScratch& scratch, const Source& source) {
  uint32_t best = kNoKey;
  int best_index = 0;
  bool all_finite = true;
  ForAll(source, [&](int index, uint32_t key) {
    if (index >= source.size) return;
    all_finite = all_finite && IsFiniteKey(key);
    if (key >= best) return;
    best = key;
    best_index = index;
  });
  const uint64_t found = BlockMin(scratch.block, Join(static_cast<uint32_t>(best_index), best));
  const uint64_t num_bad = BlockSum(scratch.block, all_finite ? uint64_t{0} : uint64_t{1});
  return {static_cast<int>(static_cast<uint32_t>(found)),
          FromOrderKey(static_cast<uint32_t>(found >> 32)), num_bad == 0, best};
}

// log(sum(exp(values))) of a finite row whose largest value is `best`.
__device__ inline double LogSumExp(SampleScratch& scratch, Source source, float best) {
  source.keys = Source::Keys::kDistance;
  source.best = best;
  source.scale = DistanceScale(1.0f);
  const double sum = static_cast<double>(Sum(scratch, source, Measure{}));
  return best + log(sum / static_cast<double>(kBestWeight));
}

}  // namespace mea::cuda
