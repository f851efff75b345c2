#include "kernels/backend.h"

#include <cstring>

namespace mea {
namespace {

// Both in host memory: row by row, whatever their strides.
void CopyRows(TensorView from, TensorView to) {
  MEA_CHECK(from.rank == to.rank && from.shape == to.shape && from.dtype == to.dtype);
  MEA_CHECK(from.device == Device::kCpu && to.device == Device::kCpu);
  if (from.is_dense() && to.is_dense()) {
    std::memcpy(to.data, from.data, from.num_elements() * DTypeSize(from.dtype));
    return;
  }
  MEA_CHECK(from.rank == 2);
  const int64_t size = DTypeSize(from.dtype);
  for (int64_t row = 0; row < from.shape[0]; ++row) {
    std::memcpy(static_cast<char*>(to.data) + row * to.stride[0] * size,
                static_cast<const char*>(from.data) + row * from.stride[0] * size,
                from.shape[1] * size);
  }
}

}  // namespace

void Backend::Upload(TensorView host, TensorView device) { CopyRows(host, device); }
void Backend::Download(TensorView device, TensorView host) { CopyRows(device, host); }
void Backend::Copy(TensorView from, TensorView to) { CopyRows(from, to); }

}  // namespace mea
