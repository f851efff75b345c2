#include "kernels/tensor.h"

#include "kernels/host_memory.h"

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

absl::StatusOr<Tensor> Tensor::AllocateHost(std::span<const int64_t> shape, DType dtype) {
  return AllocateHostTensor(shape, dtype, Presence::kNow);
}

}  // namespace mea
