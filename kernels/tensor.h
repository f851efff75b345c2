#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>

#include "absl/status/statusor.h"
#include "kernels/dtype.h"

namespace mea {

inline constexpr int kMaxRank = 4;

struct Int4Layout;  // kernels/int4_rows.h

// A window onto elements that somebody else owns: row-major, with a free stride per dimension, the
// last of which is 1. Trivially copyable; never outlives the owner. A default-constructed view is
// "absent".
struct TensorView {
  void* data = nullptr;
  DType dtype = DType::kF32;
  Device device = Device::kCpu;
  int rank = 0;
  std::array<int64_t, kMaxRank> shape{};
  std::array<int64_t, kMaxRank> stride{};  // in elements
  const Int4Layout* int4 = nullptr;        // of kI4: what its rows have in common

  // A dense view of `shape` at `data`.
  static TensorView Dense(void* data, DType dtype, std::span<const int64_t> shape,
                          Device device = Device::kCpu);
  static TensorView Dense(void* data, DType dtype, std::initializer_list<int64_t> shape,
                          Device device = Device::kCpu) {
    return Dense(data, dtype, std::span(shape.begin(), shape.size()), device);
  }
  // A view of a host array that is only read; ops never write through their inputs.
  template <typename T>
  static TensorView Of(std::span<const T> values) {
    return Dense(const_cast<T*>(values.data()), DTypeOf<T>(),
                 {static_cast<int64_t>(values.size())});
  }

  bool empty() const { return data == nullptr; }
  int64_t num_elements() const;
  bool is_dense() const;

  // Address of element 0 as T, which must be the view's own type.
  template <typename T>
  T* as() const {
    MEA_CHECK(dtype == DTypeOf<T>());
    return static_cast<T*>(data);
  }
  // Address of element 0 of row i along the first dimension.
  template <typename T>
  T* row(int64_t i) const {
    return as<T>() + i * stride[0];
  }

  // Every element of a dense view in host memory, as T, which must be the view's own type.
  template <typename T>
  std::span<T> values() const {
    MEA_CHECK(is_dense() && device == Device::kCpu);
    return {as<T>(), static_cast<size_t>(num_elements())};
  }

  // Rows [first, first + count) of the first dimension.
  TensorView Rows(int64_t first, int64_t count) const;
  // Columns [first, first + count) of the last dimension.
  TensorView Columns(int64_t first, int64_t count) const;
  // The last dimension of [n, w] cut into equal parts: [n, parts, w / parts].
  TensorView Split(int64_t parts) const;
  // The same elements of a dense view seen in another shape.
  TensorView Reshape(std::initializer_list<int64_t> new_shape) const;
};

// Owns the memory behind a view, or shares it: `owner` keeps it alive and gives it back at the end
// (host memory, a mapped file, device memory).
class Tensor {
 public:
  Tensor() = default;
  Tensor(TensorView view, std::shared_ptr<void> owner) : view_(view), owner_(std::move(owner)) {}

  // Host memory, 64-byte aligned and zero-filled; RESOURCE_EXHAUSTED names the bytes when there is
  // not enough.
  static absl::StatusOr<Tensor> AllocateHost(std::span<const int64_t> shape, DType dtype);

  const TensorView& view() const { return view_; }
  // From the first row to the end of the last.
  int64_t num_bytes() const {
    return view_.empty() ? 0 : view_.shape[0] * view_.stride[0] * DTypeSize(view_.dtype);
  }

 private:
  TensorView view_;
  std::shared_ptr<void> owner_;  // shared: several tensors may look into one mapped file
};

}  // namespace mea
