#include "kernels/cuda/cuda_backend.h"

#include <algorithm>
#include <array>
#include <utility>

#include "kernels/cuda/device_info.h"
#include "kernels/cuda/operands.h"
#include "kernels/cuda/scratch.h"
#include "kernels/status_macros.h"

namespace mea::cuda {

absl::StatusOr<std::unique_ptr<Backend>> CreateCudaBackend(const CudaOptions& options) {
  MEA_ASSIGN_OR_RETURN(const CudaDeviceInfo info, DescribeDevice(options.device));
  auto backend = std::make_unique<CudaBackend>(options, info);
  MEA_RETURN_IF_ERROR(backend->Start());
  return backend;
}

absl::Status CudaBackend::Start() {
  MEA_ASSIGN_OR_RETURN(runtime_, Runtime::Create(options_.device, options_.synchronous));
  const Gemm::Options gemm_options{.search = options_.search_products,
                                   .workspace_bytes = options_.product_scratch_bytes};
  MEA_ASSIGN_OR_RETURN(gemm_, Gemm::Create(runtime_.get(), gemm_options));
  graphs_.emplace(runtime_.get(), options_.max_graphs);
  samples_.emplace(runtime_.get());
  return absl::OkStatus();
}

// ---- Memory.

absl::StatusOr<BackendBytes> CudaBackend::PlannedBytes(const BackendLimits& limits) const {
  return cuda::PlannedBytes(limits, options_, device_);
}

absl::Status CudaBackend::Prepare(const BackendLimits& limits) {
  MEA_ASSIGN_OR_RETURN(const ScratchPlan plan, PlanScratch(limits, options_, device_));

  // Graphs and running work may still use the previous memory.
  graphs_->Clear();
  MEA_RETURN_IF_ERROR(DoSynchronize());
  device_scratch_ = host_scratch_ = Tensor();
  const std::array<int64_t, 1> device_shape = {plan.device_bytes / 4};
  MEA_ASSIGN_OR_RETURN(Tensor device, runtime_->AllocateDevice(device_shape, DType::kI32));
  const std::array<int64_t, 1> host_shape = {plan.host_bytes / 4};
  MEA_ASSIGN_OR_RETURN(Tensor host, runtime_->AllocatePinned(host_shape, DType::kI32));
  device_scratch_ = std::move(device);
  host_scratch_ = std::move(host);

  Carver device_parts(static_cast<std::byte*>(device_scratch_.view().data));
  Carver host_parts(static_cast<std::byte*>(host_scratch_.view().data));
  const Scratch scratch = CarveScratch(plan, device_parts, host_parts);
  // A search takes some 50 ms, during which requests would wait: only for sizes that WarmUp meets.
  gemm_->Prepare(scratch.gemm, [max_seqs = limits.max_seqs, max_rows = limits.max_rows](int rows) {
    return rows == max_rows || (rows <= max_seqs && (rows == max_seqs || PadRows(rows) == rows));
  });
  samples_->set_scratch(scratch.sample);
  attention_.emplace(plan.attention, scratch.attention);
  moe_ = scratch.moe;
  max_seqs_ = limits.max_seqs;
  return absl::OkStatus();
}

// ---- Running.

int CudaBackend::PaddedRows(int num_rows) const {
  return std::max(num_rows, std::min(PadRows(num_rows), max_seqs_));
}

void CudaBackend::Run(int64_t key, absl::FunctionRef<void()> ops) {
  in_run_ = true;
  step_has_begun_ = false;
  graphs_->Run(key, ops);
  in_run_ = false;
}

absl::Status CudaBackend::DoSynchronize() {
  absl::Status status = runtime_->Synchronize();
  for (int slot = 0; status.ok() && slot < 2; ++slot) samples_->Collect(slot);
  return status;
}

int64_t CudaBackend::RecordEvent() {
  const int64_t event = num_events_++;
  runtime_->RecordEvent(static_cast<int>(event % 2));
  samples_->Use(static_cast<int>(num_events_ % 2));
  return event;
}

absl::Status CudaBackend::DoWaitEvent(int64_t event) {
  MEA_CHECK(num_events_ - 2 <= event && event < num_events_);
  const int slot = static_cast<int>(event % 2);
  absl::Status status = runtime_->WaitEvent(slot);
  if (status.ok()) samples_->Collect(slot);
  return status;
}

void CudaBackend::DoReceive(const ReceiveArgs& args) {
  MEA_CHECK(args.sender->device() == Device::kCuda && !in_run_);
  Runtime& sender = *static_cast<CudaBackend*>(args.sender)->runtime_;
  Op("Receive", [&] { runtime_->Receive(sender, args.from, args.to); });
}

// ---- Sampling.

TensorView CudaBackend::drawn() const {
  return TensorView::Dense(
      samples_->drawn(), DType::kI32,
      {samples_->max_rows(), static_cast<int64_t>(sizeof(SampledToken) / sizeof(int32_t))},
      Device::kCuda);
}

void CudaBackend::DoSample(const SampleArgs& args) {
  MEA_CHECK(!device_scratch_.view().empty());  // Prepare comes first
  At<float>(args.logits);
  Op("Sample", [&] { samples_->Sample(args); });
}

void CudaBackend::DoTokenLogprobs(const TokenLogprobsArgs& args) {
  MEA_CHECK(!device_scratch_.view().empty());  // Prepare comes first
  At<float>(args.logits);
  Op("TokenLogprobs", [&] { samples_->TokenLogprobs(args); });
}

}  // namespace mea::cuda
