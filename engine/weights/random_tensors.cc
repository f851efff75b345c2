#include "engine/weights/random_tensors.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "engine/weights/in_parallel.h"
#include "kernels/matrix.h"
#include "kernels/random_fill.h"
#include "kernels/status_macros.h"
#include "kernels/uniform.h"

namespace mea {
namespace {

// Element i of a tensor: uniform around `mean` with this standard deviation.
struct Distribution {
  float mean = 0;
  float deviation = 1;
  uint64_t seed = 0;

  float At(int64_t i) const {
    const uint64_t bits = MixBits(seed + static_cast<uint64_t>(i));
    const float centred = static_cast<float>(bits >> 40) * 0x1p-23f - 1.0f;  // [-1, 1)
    return mean + deviation * std::sqrt(3.0f) * centred;
  }
};

// The rows that begin among these elements.
void FillRows(TensorView view, const Distribution& distribution, int64_t begin, int64_t end) {
  const int64_t k = view.shape[1];
  std::vector<float> row(k);
  for (int64_t i = (begin + k - 1) / k; i < (end + k - 1) / k; ++i) {
    for (int64_t j = 0; j < k; ++j) row[j] = distribution.At(i * k + j);
    RoundRow(row.data(), view, i);
  }
}

void Fill(TensorView view, const Distribution& distribution, int64_t begin, int64_t end) {
  if (IsRounded(view.dtype)) return FillRows(view, distribution, begin, end);
  if (view.dtype == DType::kBf16) {
    for (int64_t i = begin; i < end; ++i) view.as<Bf16>()[i] = ToBf16(distribution.At(i));
  } else {
    for (int64_t i = begin; i < end; ++i) view.as<float>()[i] = distribution.At(i);
  }
}

Distribution DistributionOf(const TensorSpec& spec, uint64_t seed) {
  const auto scaled_by = [&](int64_t n) { return 1.0f / std::sqrt(static_cast<float>(n)); };
  switch (spec.role) {
    case TensorRole::kMatrix:
    case TensorRole::kVocabulary:
    case TensorRole::kExactMatrix:
      return {.mean = 0, .deviation = scaled_by(spec.shape[1]), .seed = seed};
    case TensorRole::kGain:
      return {.mean = 1, .deviation = 0.1f, .seed = seed};
    case TensorRole::kBias:
      return {.mean = 0, .deviation = 0.1f, .seed = seed};
    case TensorRole::kMix:
      return {.mean = 0, .deviation = scaled_by(spec.shape[0]), .seed = seed};
  }
  return {};
}

DType DTypeOf(const TensorSpec& spec, DType matrix_dtype) {
  return spec.is_matrix() ? spec.MatrixDType(matrix_dtype, DType::kBf16) : DType::kF32;
}

int64_t NumElements(const TensorSpec& spec) {
  int64_t count = 1;
  for (const int64_t extent : spec.shape) count *= extent;
  return count;
}

// Bytes of a tensor among others of its run: each begins where vector loads may. In all but unusual
// models sizes are multiples of that, so neighbours are adjacent.
int64_t PaddedBytes(const TensorSpec& spec, DType matrix_dtype) {
  constexpr int64_t kAlignment = 64;
  const int64_t bytes = NumElements(spec) * DTypeSize(DTypeOf(spec, matrix_dtype));
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

absl::StatusOr<Tensor> MakeOnHost(const TensorSpec& spec, DType dtype, const Distribution& numbers,
                                  int num_threads) {
  MEA_ASSIGN_OR_RETURN(Tensor tensor, spec.is_matrix()
                                          ? AllocateMatrix(spec.shape[0], spec.shape[1], dtype)
                                          : Tensor::AllocateHost(spec.shape, dtype));
  constexpr int64_t kElementsForAThread = 1 << 20;
  const TensorView view = tensor.view();
  InParallel(view.num_elements(), kElementsForAThread, num_threads,
             [&](int64_t begin, int64_t end) { Fill(view, numbers, begin, end); });
  return tensor;
}

class Progress {
 public:
  Progress(const LoadProgress& progress, int64_t bytes_total)
      : progress_(progress), bytes_total_(bytes_total) {
    Add(0);
  }
  void Add(int64_t bytes) {
    bytes_done_ += bytes;
    if (progress_) progress_("random weights", bytes_done_, bytes_total_);
  }

 private:
  const LoadProgress& progress_;
  const int64_t bytes_total_;
  int64_t bytes_done_ = 0;
};

// The seeds of a list's tensors, in its order.
class Seeds {
 public:
  explicit Seeds(uint64_t seed) : seed_(seed) {}
  uint64_t Next() { return MixBits(seed_ + 0x9e3779b97f4a7c15u * ++num_given_); }

 private:
  const uint64_t seed_;
  uint64_t num_given_ = 0;
};

}  // namespace

absl::Status MakeRandomTensors(const TensorList& list, DType matrix_dtype, uint64_t seed,
                               int num_threads, const LoadProgress& progress,
                               ModelWeights& weights) {
  MEA_CHECK(matrix_dtype == DType::kBf16 || matrix_dtype == DType::kF32 || IsRounded(matrix_dtype));
  Seeds seeds(seed);
  Progress report(progress, PlannedRandomTensorBytes(list, matrix_dtype));
  for (const TensorSpec& spec : list.specs()) {
    if (spec.is_temporary) continue;
    MEA_ASSIGN_OR_RETURN(Tensor tensor,
                         MakeOnHost(spec, DTypeOf(spec, matrix_dtype),
                                    DistributionOf(spec, seeds.Next()), std::max(1, num_threads)));
    *spec.view = tensor.view();
    weights.num_bytes += tensor.num_bytes();
    report.Add(tensor.num_bytes());
    weights.storage.push_back(std::move(tensor));
  }
  return absl::OkStatus();
}

absl::Status MakeRandomTensorsOn(Backend& backend, const TensorList& list, uint64_t seed,
                                 const LoadProgress& progress, ModelWeights& weights) {
  const DType matrix_dtype = backend.weight_dtype().value_or(DType::kBf16);
  Seeds seeds(seed);
  Progress report(progress, PlannedRandomTensorBytes(list, matrix_dtype));
  for (const auto run : RunsOf(list)) {
    if (run.front().is_temporary) continue;
    int64_t bytes = 0;
    for (const TensorSpec& spec : run) bytes += PaddedBytes(spec, matrix_dtype);
    const std::array<int64_t, 1> shape = {bytes / DTypeSize(DType::kBf16)};
    MEA_ASSIGN_OR_RETURN(Tensor memory, backend.Allocate(shape, DType::kBf16));
    char* next = static_cast<char*>(memory.view().data);
    for (const TensorSpec& spec : run) {
      const DType dtype = DTypeOf(spec, matrix_dtype);
      *spec.view = TensorView::Dense(next, dtype, spec.shape, backend.device());
      next += PaddedBytes(spec, matrix_dtype);
      const Distribution numbers = DistributionOf(spec, seeds.Next());
      const float bound = numbers.deviation * std::sqrt(3.0f);
      MEA_RETURN_IF_ERROR(FillRandom(
          backend, *spec.view,
          {.low = numbers.mean - bound, .high = numbers.mean + bound, .seed = numbers.seed}));
      weights.num_bytes += NumElements(spec) * DTypeSize(dtype);
      report.Add(NumElements(spec) * DTypeSize(dtype));
    }
    weights.storage.push_back(std::move(memory));
  }
  return absl::OkStatus();
}

int64_t PlannedRandomTensorBytes(const TensorList& list, DType matrix_dtype) {
  int64_t bytes = 0;
  for (const TensorSpec& spec : list.specs()) {
    if (spec.is_temporary) continue;
    const DType dtype = DTypeOf(spec, matrix_dtype);
    bytes += spec.is_matrix() ? MatrixBytes(spec.shape[0], spec.shape[1], dtype)
                              : NumElements(spec) * DTypeSize(dtype);
  }
  return bytes;
}

}  // namespace mea
