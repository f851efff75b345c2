#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <vector>

#include "kernels/check.h"

namespace mea::simt {

// Device memory of a test, freed at its end. Elements start as 0xff bytes, or as a copy.
template <class T>
class DeviceVector {
 public:
  explicit DeviceVector(size_t size) : size_(size) {
    MEA_CHECK(cudaMalloc(&data_, size * sizeof(T)) == cudaSuccess);
  }
  explicit DeviceVector(const std::vector<T>& values) : DeviceVector(values.size()) {
    MEA_CHECK(cudaMemcpy(data_, values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice) ==
              cudaSuccess);
  }
  ~DeviceVector() { cudaFree(data_); }
  DeviceVector(const DeviceVector&) = delete;
  DeviceVector& operator=(const DeviceVector&) = delete;

  T* data() const { return data_; }
  size_t size() const { return size_; }

  // After everything queued so far.
  std::vector<T> ToHost() const {
    std::vector<T> values(size_);
    MEA_CHECK(cudaDeviceSynchronize() == cudaSuccess);
    MEA_CHECK(cudaMemcpy(values.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost) ==
              cudaSuccess);
    return values;
  }

 private:
  T* data_ = nullptr;
  size_t size_;
};

}  // namespace mea::simt
