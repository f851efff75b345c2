#include "engine/model/row_probe.h"

namespace mea {

absl::StatusOr<RowProbe> RowProbe::Create(int hidden_size, int max_rows, Backend* backend) {
  RowProbe probe(backend);
  const std::array<int64_t, 2> zeros = {kColumns, hidden_size};
  absl::StatusOr<Tensor> tensor = backend->Allocate(zeros, DType::kBf16);
  if (!tensor.ok()) return tensor.status();
  probe.zeros_ = *std::move(tensor);
  const std::array<int64_t, 2> products = {max_rows, kColumns};
  tensor = backend->Allocate(products, backend->wide_dtype());
  if (!tensor.ok()) return tensor.status();
  probe.products_ = *std::move(tensor);
  if (backend->device() == Device::kCpu) return probe;
  for (Tensor& host : probe.hosts_) {
    tensor = backend->AllocateHost(products, backend->wide_dtype());
    if (!tensor.ok()) return tensor.status();
    host = *std::move(tensor);
  }
  return probe;
}

int64_t RowProbe::PlannedBytes(int hidden_size, int max_rows, DType wide) {
  return kColumns *
         (int64_t{hidden_size} * DTypeSize(DType::kBf16) + int64_t{max_rows} * DTypeSize(wide));
}

RowProbe::Answer RowProbe::Start(TensorView x) {
  const TensorView products = products_.view().Rows(0, x.shape[0]);
  backend_->MatMul(x, {.w = zeros_.view(), .out = products});
  if (backend_->device() == Device::kCpu) return Answer(products);
  const TensorView host = hosts_[next_host_].view().Rows(0, x.shape[0]);
  next_host_ = 1 - next_host_;
  backend_->Download(products, host);
  return Answer(host);
}

bool RowProbe::Answer::IsFinite(int row) const {
  return products_.dtype == DType::kF64 ? products_.row<double>(row)[0] == 0
                                        : products_.row<float>(row)[0] == 0;
}

}  // namespace mea
