#include "kernels/backend.h"

#include <cstring>

namespace mea {
namespace {

// Both in host memory: row by row, whatever their strides.
void CopyRows(const CopyArgs& args) {
  const auto& [from, to] = args;
  MEA_CHECK(from.device == Device::kCpu && to.device == Device::kCpu);
  if (from.is_dense() && to.is_dense()) {
    std::memcpy(to.data, from.data, from.num_elements() * DTypeSize(from.dtype));
    return;
  }
  const int64_t size = DTypeSize(from.dtype);
  for (int64_t row = 0; row < from.shape[0]; ++row) {
    std::memcpy(static_cast<char*>(to.data) + row * to.stride[0] * size,
                static_cast<const char*>(from.data) + row * from.stride[0] * size,
                from.shape[1] * size);
  }
}

}  // namespace

void Backend::DoUpload(const CopyArgs& args) { CopyRows(args); }
void Backend::DoDownload(const CopyArgs& args) { CopyRows(args); }
void Backend::DoCopy(const CopyArgs& args) { CopyRows(args); }
void Backend::DoReceive(const ReceiveArgs& args) { CopyRows({.from = args.from, .to = args.to}); }

void Backend::DoPrepareAndAppend(const PrepareAndAppendArgs& args) {
  DoPrepareQueries(args.queries);
  DoAppendKv(args.kv);
}

}  // namespace mea
