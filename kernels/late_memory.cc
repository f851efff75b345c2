#include "kernels/late_memory.h"

#include <unistd.h>

#include <algorithm>

#include "kernels/check.h"
#include "kernels/host_memory.h"

namespace mea {
namespace {

constexpr int64_t kStepBytes = int64_t{2} << 20;  // of each tensor in turn

// Writes to each page without changing it, whatever other threads write there meanwhile.
// MADV_POPULATE_WRITE would hold the lock of the memory map, for which every thread that maps
// something waits; so would a page fault before Linux 6.4, so this thread has no lower priority.
void Touch(char* data, int64_t bytes, int64_t page_bytes) {
  for (int64_t i = 0; i < bytes; i += page_bytes) asm volatile("lock; orb $0, %0" : "+m"(data[i]));
}

}  // namespace

absl::StatusOr<Tensor> LateMemory::Allocate(std::span<const int64_t> shape, DType dtype) {
  absl::StatusOr<Tensor> tensor = AllocateHostTensor(shape, dtype, Presence::kAtUse);
  if (tensor.ok() && tensor->num_bytes() >= kLargeBytes) tensors_.push_back(*tensor);
  return tensor;
}

void LateMemory::Start() {
  MEA_CHECK(!thread_.joinable());
  thread_ = std::jthread([this](const std::stop_token& stop) { Run(stop); });
}

void LateMemory::Run(const std::stop_token& stop) {
  const int64_t page_bytes = sysconf(_SC_PAGESIZE);
  int64_t longest = 0;
  for (const Tensor& tensor : tensors_) longest = std::max(longest, tensor.num_bytes());
  for (int64_t first = 0; first < longest; first += kStepBytes) {
    for (const Tensor& tensor : tensors_) {
      const int64_t bytes = std::min(kStepBytes, tensor.num_bytes() - first);
      if (bytes <= 0) continue;
      if (stop.stop_requested()) return;
      Touch(static_cast<char*>(tensor.view().data) + first, bytes, page_bytes);
    }
  }
}

}  // namespace mea
