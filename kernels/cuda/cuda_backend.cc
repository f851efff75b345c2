#include "kernels/cuda/cuda_backend.h"

#include <algorithm>
#include <array>
#include <utility>

#include "kernels/cuda/device_info.h"
#include "kernels/cuda/operands.h"
#include "kernels/cuda/scratch.h"

namespace mea::cuda {

absl::StatusOr<std::unique_ptr<Backend>> CreateCudaBackend(const CudaOptions& options) {
  const absl::StatusOr<CudaDeviceInfo> info = DescribeDevice(options.device);
  if (!info.ok()) return info.status();
  auto backend = std::make_unique<CudaBackend>(options, *info);
  if (absl::Status status = backend->Start(); !status.ok()) return status;
  return backend;
}

absl::Status CudaBackend::Start() {
  absl::StatusOr<std::unique_ptr<Runtime>> runtime =
      Runtime::Create(options_.device, options_.synchronous);
  if (!runtime.ok()) return runtime.status();
  runtime_ = *std::move(runtime);
  const Gemm::Options gemm_options{
      .search = options_.search_products,
      .workspace_bytes = options_.product_scratch_bytes,
      .is_searched = [](int num_rows) { return PadRows(num_rows) == num_rows; }};
  absl::StatusOr<std::unique_ptr<Gemm>> gemm = Gemm::Create(runtime_.get(), gemm_options);
  if (!gemm.ok()) return gemm.status();
  gemm_ = *std::move(gemm);
  graphs_.emplace(runtime_.get(), options_.max_graphs);
  samples_.emplace(runtime_.get());
  return absl::OkStatus();
}

// ---- Memory.

absl::StatusOr<BackendBytes> CudaBackend::PlannedBytes(const BackendLimits& limits) const {
  return cuda::PlannedBytes(limits, options_, device_);
}

absl::Status CudaBackend::Prepare(const BackendLimits& limits) {
  const absl::StatusOr<ScratchPlan> plan = PlanScratch(limits, options_, device_);
  if (!plan.ok()) return plan.status();

  // Graphs and work under way may still use the memory that there was.
  graphs_->Clear();
  if (absl::Status status = DoSynchronize(); !status.ok()) return status;
  device_scratch_ = host_scratch_ = Tensor();
  const std::array<int64_t, 1> device_shape = {plan->device_bytes / 4};
  absl::StatusOr<Tensor> device = runtime_->AllocateDevice(device_shape, DType::kI32);
  if (!device.ok()) return device.status();
  const std::array<int64_t, 1> host_shape = {plan->host_bytes / 4};
  absl::StatusOr<Tensor> host = runtime_->AllocatePinned(host_shape, DType::kI32);
  if (!host.ok()) return host.status();
  device_scratch_ = *std::move(device);
  host_scratch_ = *std::move(host);

  Carver device_parts(static_cast<std::byte*>(device_scratch_.view().data));
  Carver host_parts(static_cast<std::byte*>(host_scratch_.view().data));
  const Scratch scratch = CarveScratch(*plan, device_parts, host_parts);
  gemm_->set_scratch(scratch.gemm);
  samples_->set_scratch(scratch.sample);
  attention_.emplace(plan->attention, scratch.attention);
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

// ---- Sampling.

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
