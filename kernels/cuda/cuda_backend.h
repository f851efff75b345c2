#pragma once

#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "kernels/cuda/attention/attention.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/graph_cache.h"
#include "kernels/cuda/runtime.h"
#include "kernels/cuda/sample_queue.h"
#include "kernels/cuda/scratch.h"
#include "kernels/cuda_module.h"

namespace mea::cuda {

// The back end itself, for the module and for tests; statuses as for OpenCudaBackend.
absl::StatusOr<std::unique_ptr<Backend>> CreateCudaBackend(const CudaOptions& options);

// Every op calls its launcher; one stream runs them. The ops over rows are in row_ops.cc, those
// between projections and attention's output in attention_ops.cc, the mixture of experts in
// moe_ops.cc, everything else in cuda_backend.cc.
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

  void Run(int64_t key, absl::FunctionRef<void()> ops) override;
  int PaddedRows(int num_rows) const override;
  bool learns_from_first_steps() const override { return options_.search_products; }
  int64_t RecordEvent() override;
  TensorView drawn() const override;

 private:
  void DoUpload(const CopyArgs& args) override {
    MEA_CHECK(args.from.device == Device::kCpu && args.to.device == Device::kCuda);
    Op("Upload", [&] { runtime_->Copy(args.from, args.to, cudaMemcpyHostToDevice); });
  }
  void DoDownload(const CopyArgs& args) override {
    MEA_CHECK(args.from.device == Device::kCuda && args.to.device == Device::kCpu);
    Op("Download", [&] { runtime_->Copy(args.from, args.to, cudaMemcpyDeviceToHost); });
  }
  void DoCopy(const CopyArgs& args) override {
    MEA_CHECK(args.from.device == Device::kCuda && args.to.device == Device::kCuda);
    Op("Copy", [&] { runtime_->Copy(args.from, args.to, cudaMemcpyDeviceToDevice); });
  }
  void DoReceive(const ReceiveArgs& args) override;
  void DoEmbed(const EmbedArgs& args) override;
  void DoRmsNorm(const RmsNormArgs& args) override;
  void DoAddRmsNorm(const AddRmsNormArgs& args) override;
  void DoNormRows(const NormRowsArgs& args) override;
  void DoMatMul(const MatMulArgs& args) override;
  void DoGatedActivation(const GatedActivationArgs& args) override;
  void DoMoe(const MoeArgs& args) override;
  void DoSigmoidGate(const SigmoidGateArgs& args) override;
  void DoMixHeads(const MixHeadsArgs& args) override;
  void DoGatherRows(const GatherRowsArgs& args) override;
  void DoComputeRope(const ComputeRopeArgs& args) override;
  void DoPrepareQueries(const PrepareQueriesArgs& args) override;
  void DoAppendKv(const AppendKvArgs& args) override;
  void DoPrepareAndAppend(const PrepareAndAppendArgs& args) override;
  void DoPagedAttention(const PagedAttentionArgs& args) override;
  void DoInterleavedAttention(const InterleavedAttentionArgs& args) override;
  void DoSample(const SampleArgs& args) override;
  void DoTokenLogprobs(const TokenLogprobsArgs& args) override;
  absl::Status DoWaitEvent(int64_t event) override;
  absl::Status DoSynchronize() override;

  void BeginAttention(const PagedAttentionArgs& args);
  AttentionOptions AttentionHow() const;

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
  std::optional<GraphCache> graphs_;
  std::optional<SampleQueue> samples_;
  std::optional<cuda::PagedAttention> attention_;
  MoeScratch moe_;
  int max_seqs_ = 0;
  int64_t num_events_ = 0;
  bool in_run_ = false;
  bool step_has_begun_ = false;  // attention knows the lengths of the run's step
};

}  // namespace mea::cuda
