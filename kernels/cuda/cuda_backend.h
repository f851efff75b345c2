#pragma once

#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "kernels/cuda/attention/attention.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/recorder.h"
#include "kernels/cuda/runtime.h"
#include "kernels/cuda/sample_queue.h"
#include "kernels/cuda/scratch.h"
#include "kernels/cuda_module.h"
#include "kernels/op_checks.h"

namespace mea::cuda {

// The back end itself, for the module and for tests; statuses as for OpenCudaBackend.
absl::StatusOr<std::unique_ptr<Backend>> CreateCudaBackend(const CudaOptions& options);

// Every op checks its operands and calls its launcher; one stream runs them. The ops over rows are
// in row_ops.cc, those between projections and attention's output in attention_ops.cc, the mixture
// of experts in moe_ops.cc, everything else in cuda_backend.cc.
class CudaBackend final : public Backend {
 public:
  CudaBackend(const CudaOptions& options, const CudaDeviceInfo& device)
      : options_(options), device_(device) {}

  absl::Status Start();

  std::string_view name() const override { return "cuda"; }
  Device device() const override { return Device::kCuda; }
  DType compute_dtype() const override { return DType::kBf16; }
  DType wide_dtype() const override { return DType::kF32; }
  std::optional<DType> weight_dtype() const override { return DType::kBf16; }
  BackendCounters counters() const override { return runtime_->counters(); }

  std::optional<DeviceMemory> memory() const override { return runtime_->memory(); }

  absl::Status Prepare(const BackendLimits& limits) override;
  absl::StatusOr<BackendBytes> PlannedBytes(const BackendLimits& limits) const override;

  absl::StatusOr<Tensor> Allocate(std::span<const int64_t> shape, DType dtype) override {
    return runtime_->AllocateDevice(shape, dtype);
  }
  absl::StatusOr<Tensor> AllocateHost(std::span<const int64_t> shape, DType dtype) override {
    return runtime_->AllocatePinned(shape, dtype);
  }
  void Upload(TensorView host, TensorView device) override {
    MEA_CHECK(host.device == Device::kCpu && device.device == Device::kCuda);
    Op("Upload", [&] { runtime_->Copy(host, device, cudaMemcpyHostToDevice); });
  }
  void Download(TensorView device, TensorView host) override {
    MEA_CHECK(host.device == Device::kCpu && device.device == Device::kCuda);
    Op("Download", [&] { runtime_->Copy(device, host, cudaMemcpyDeviceToHost); });
  }
  void Copy(TensorView from, TensorView to) override {
    MEA_CHECK(from.device == Device::kCuda && to.device == Device::kCuda);
    Op("Copy", [&] { runtime_->Copy(from, to, cudaMemcpyDeviceToDevice); });
  }

  void Run(int64_t key, absl::FunctionRef<void()> ops) override;
  int PaddedRows(int num_rows) const override;

  void Embed(TensorView table, TensorView ids, TensorView out) override;
  void RmsNorm(TensorView x, TensorView gain, float eps, TensorView out) override;
  void AddRmsNorm(TensorView delta, TensorView residual, TensorView gain, float eps,
                  TensorView out) override;
  void MatMul(TensorView x, std::span<const Projection> projections) override;
  void SwiGlu(TensorView gate, TensorView up, TensorView out) override;
  void Moe(const MoeArgs& args) override;
  void SigmoidGate(TensorView gate, TensorView up, float scale, TensorView out) override;
  void MixHeads(TensorView x, TensorView mix, TensorView out) override;
  void GatherRows(TensorView x, TensorView rows, TensorView out) override;
  void ComputeRope(const RopeArgs& args) override;
  void PrepareQueries(const PrepareQueriesArgs& args) override;
  void AppendKv(const AppendKvArgs& args) override;
  void PrepareAndAppend(const PrepareQueriesArgs& queries, const AppendKvArgs& kv) override;
  void PagedAttention(const PagedAttentionArgs& args) override;
  void InterleavedAttention(const InterleavedAttentionArgs& args) override;
  void Sample(TensorView logits, std::span<const SampleRow> rows, std::span<const LogitEdit> edits,
              std::span<const uint32_t> masks, std::span<SampledToken> tokens) override;
  void TokenLogprobs(TensorView logits, std::span<const int32_t> targets,
                     std::span<float> logprobs) override;

  int64_t Mark() override;
  absl::Status Await(int64_t mark) override;
  absl::Status Synchronize() override;

 private:
  static ActivationDTypes DTypes() { return {DType::kBf16, DType::kF32}; }

  void BeginAttention(const PagedAttentionArgs& args);

  // Calls CUDA on behalf of an op, unless the device has failed.
  template <typename Calls>
  void Op(std::string_view name, const Calls& calls) {
    if (!runtime_->Begin(name)) return;
    calls();
    runtime_->End();
  }
  // One launch; `launch` returns its error.
  template <typename Launch>
  void Launched(std::string_view name, const Launch& launch) {
    Op(name, [&] { runtime_->Check(launch(runtime_->stream())); });
  }

  const CudaOptions options_;
  const CudaDeviceInfo device_;
  std::unique_ptr<Runtime> runtime_;  // first: everything below uses it until destroyed
  Tensor device_scratch_, host_scratch_;
  std::unique_ptr<Gemm> gemm_;
  std::optional<Recorder> recorder_;
  std::optional<SampleQueue> samples_;
  std::optional<cuda::PagedAttention> attention_;
  MoeScratch moe_;
  int max_seqs_ = 0;
  int64_t num_marks_ = 0;
  bool in_run_ = false;
  bool step_has_begun_ = false;  // attention knows the lengths of the run's step
};

}  // namespace mea::cuda
