#include "engine/model/row_probe.h"

#include "kernels/status_macros.h"

namespace mea {

absl::StatusOr<RowProbe> RowProbe::Create(int hidden_size, int max_rows, Backend* backend) {
  RowProbe probe(backend);
  const std::array<int64_t, 2> zeros = {kColumns, hidden_size};
  MEA_ASSIGN_OR_RETURN(probe.zeros_, backend->Allocate(zeros, DType::kBf16));
  const std::array<int64_t, 2> products = {max_rows, kColumns};
  MEA_ASSIGN_OR_RETURN(probe.products_, backend->Allocate(products, backend->wide_dtype()));
  if (backend->device() == Device::kCpu) return probe;
  for (Tensor& host : probe.hosts_) {
    MEA_ASSIGN_OR_RETURN(host, backend->AllocateHost(products, backend->wide_dtype()));
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
