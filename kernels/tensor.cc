#include "kernels/tensor.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "kernels/human_bytes.h"

namespace mea {

TensorView TensorView::Dense(void* data, DType dtype, std::span<const int64_t> shape,
                             Device device) {
  MEA_CHECK(shape.size() <= kMaxRank);
  TensorView view{.data = data, .dtype = dtype, .device = device};
  view.rank = static_cast<int>(shape.size());
  int64_t stride = 1;
  for (int i = view.rank - 1; i >= 0; --i) {
    view.shape[i] = shape[i];
    view.stride[i] = stride;
    stride *= shape[i];
  }
  return view;
}

int64_t TensorView::num_elements() const {
  if (empty()) return 0;
  int64_t count = 1;
  for (int i = 0; i < rank; ++i) count *= shape[i];
  return count;
}

bool TensorView::is_dense() const {
  int64_t expected = 1;
  for (int i = rank - 1; i >= 0; --i) {
    if (shape[i] > 1 && stride[i] != expected) return false;
    expected *= shape[i];
  }
  return true;
}

TensorView TensorView::Rows(int64_t first, int64_t count) const {
  MEA_CHECK(rank >= 1 && first >= 0 && count >= 0 && first + count <= shape[0]);
  TensorView view = *this;
  view.data = static_cast<char*>(data) + first * stride[0] * DTypeSize(dtype);
  view.shape[0] = count;
  return view;
}

TensorView TensorView::Columns(int64_t first, int64_t count) const {
  MEA_CHECK(rank >= 1 && first >= 0 && count >= 0 && first + count <= shape[rank - 1]);
  TensorView view = *this;
  view.data = static_cast<char*>(data) + first * DTypeSize(dtype);
  view.shape[rank - 1] = count;
  return view;
}

TensorView TensorView::Split(int64_t parts) const {
  MEA_CHECK(rank == 2 && parts > 0 && shape[1] % parts == 0);
  TensorView view = *this;
  view.rank = 3;
  view.shape = {shape[0], parts, shape[1] / parts};
  view.stride = {stride[0], shape[1] / parts, 1};
  return view;
}

TensorView TensorView::Reshape(std::initializer_list<int64_t> new_shape) const {
  MEA_CHECK(is_dense());
  TensorView view = Dense(data, dtype, new_shape, device);
  MEA_CHECK(view.num_elements() == num_elements());
  return view;
}

namespace {

constexpr int64_t kAlignment = 64;
// The size on x86. Weights and caches are read from end to end: with small pages every 4 KB cost
// a walk through the page tables, a tenth of the reading rate.
constexpr int64_t kHugePage = int64_t{2} << 20;

// Zeroed memory in large pages, all of it present at once: a cache that does not fit fails here,
// not when it is full. Null if there is no memory.
std::shared_ptr<void> MapLarge(int64_t bytes) {
  const int64_t mapped = bytes + kHugePage;
  void* const begin =
      mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (begin == MAP_FAILED) return nullptr;
  const auto unmap = [mapped, begin](void*) { munmap(begin, mapped); };
  const auto address = reinterpret_cast<uintptr_t>(begin);
  void* const data =
      reinterpret_cast<void*>((address + kHugePage - 1) / kHugePage * kHugePage);  // NOLINT
  std::shared_ptr<void> memory(data, unmap);
  // Only advice: if the kernel ignores it, pages are small.
  madvise(data, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
  // Kernels before 5.14 do not know it.
  if (madvise(data, bytes, MADV_POPULATE_WRITE) != 0) {
    if (errno == ENOMEM) return nullptr;
    std::memset(data, 0, bytes);
  }
  return memory;
}

std::shared_ptr<void> AllocateZeroed(int64_t bytes) {
  if (bytes >= 2 * kHugePage) return MapLarge(bytes);
  void* const data = std::aligned_alloc(kAlignment, bytes);
  if (data == nullptr) return nullptr;
  std::memset(data, 0, bytes);
  return {data, std::free};
}

}  // namespace

absl::StatusOr<Tensor> Tensor::AllocateHost(std::span<const int64_t> shape, DType dtype) {
  int64_t bytes = DTypeSize(dtype);
  for (const int64_t extent : shape) {
    MEA_CHECK(extent >= 0);
    if (__builtin_mul_overflow(bytes, extent, &bytes)) bytes = INT64_MAX;
  }
  const bool addressable = bytes < INT64_MAX - 2 * kHugePage;
  const int64_t padded = addressable ? (bytes + kAlignment) / kAlignment * kAlignment : 0;
  std::shared_ptr<void> data = addressable ? AllocateZeroed(padded) : nullptr;
  if (data == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("cannot allocate ", HumanBytes(bytes)));
  }
  return Tensor(TensorView::Dense(data.get(), dtype, shape), data);
}

}  // namespace mea
