#include "kernels/random_fill.h"

#include <algorithm>
#include <array>

#include "kernels/status_macros.h"
#include "kernels/uniform.h"

namespace mea {
namespace {

// Lines of 64 elements for fast copies, an odd number of them: neighbouring pages differ.
constexpr int64_t kPeriod = (int64_t{1} << 20) - 64;

float At(const UniformRange& range, int64_t i) {
  const uint64_t bits = MixBits(range.seed + static_cast<uint64_t>(i));
  return range.low + (range.high - range.low) * static_cast<float>(bits >> 40) * 0x1p-24f;
}

void FillHost(TensorView view, const UniformRange& range) {
  MEA_CHECK(view.dtype == DType::kF32 || view.dtype == DType::kBf16);
  const int64_t count = view.num_elements();
  if (view.dtype == DType::kBf16) {
    for (int64_t i = 0; i < count; ++i) view.as<Bf16>()[i] = ToBf16(At(range, i));
  } else {
    for (int64_t i = 0; i < count; ++i) view.as<float>()[i] = At(range, i);
  }
}

}  // namespace

absl::Status FillRandom(Backend& backend, TensorView view, const UniformRange& range) {
  MEA_CHECK(view.is_dense());
  const int64_t count = view.num_elements();
  const std::array<int64_t, 1> shape = {std::min(count, kPeriod)};
  // Pageable: copying so little takes less time than pinning memory.
  MEA_ASSIGN_OR_RETURN(Tensor period, Tensor::AllocateHost(shape, view.dtype));
  FillHost(period.view(), range);

  const TensorView flat = view.Reshape({count});
  const TensorView first = flat.Rows(0, shape[0]);
  backend.Upload(period.view(), first);
  for (int64_t begin = shape[0]; begin < count; begin += shape[0]) {
    const int64_t part = std::min(shape[0], count - begin);
    backend.Copy({.from = first.Rows(0, part), .to = flat.Rows(begin, part)});
  }
  return backend.Synchronize();
}

}  // namespace mea
