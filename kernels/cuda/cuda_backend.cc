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
  recorder_.emplace(runtime_.get(), options_.max_records);
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

  // Records and pending work may still use the old memory.
  recorder_->Clear();
  if (absl::Status status = Synchronize(); !status.ok()) return status;
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
  recorder_->Run(key, ops);
  in_run_ = false;
}

absl::Status CudaBackend::Synchronize() {
  absl::Status status = runtime_->Synchronize();
  for (int slot = 0; status.ok() && slot < 2; ++slot) samples_->Collect(slot);
  return status;
}

int64_t CudaBackend::Mark() {
  const int64_t mark = num_marks_++;
  runtime_->Mark(static_cast<int>(mark % 2));
  samples_->Use(static_cast<int>(num_marks_ % 2));
  return mark;
}

absl::Status CudaBackend::Await(int64_t mark) {
  MEA_CHECK(num_marks_ - 2 <= mark && mark < num_marks_);
  const int slot = static_cast<int>(mark % 2);
  absl::Status status = runtime_->Await(slot);
  if (status.ok()) samples_->Collect(slot);
  return status;
}

// ---- Sampling.

void CudaBackend::Sample(TensorView logits, std::span<const SampleRow> rows,
                         std::span<const LogitEdit> edits, std::span<const uint32_t> masks,
                         std::span<SampledToken> tokens) {
  CheckSample(logits, rows, masks, tokens.size(), DTypes());
  MEA_CHECK(!device_scratch_.view().empty());  // Prepare comes first
  At<float>(logits);
  Op("Sample", [&] { samples_->Sample(logits, rows, edits, masks, tokens); });
}

void CudaBackend::TokenLogprobs(TensorView logits, std::span<const int32_t> targets,
                                std::span<float> logprobs) {
  CheckTokenLogprobs(logits, targets.size(), logprobs.size(), DTypes());
  MEA_CHECK(!device_scratch_.view().empty());  // Prepare comes first
  At<float>(logits);
  Op("TokenLogprobs", [&] { samples_->TokenLogprobs(logits, targets, logprobs); });
}

}  // namespace mea::cuda
