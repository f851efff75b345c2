#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "kernels/backend_limits.h"
#include "kernels/op_observer.h"
#include "kernels/tensor.h"

namespace mea {

// A device's own memory.
struct DeviceMemory {
  int64_t total_bytes = 0;
  int64_t free_bytes = 0;
};

// The ops of a forward pass on one device. Each has one door, the same for all back ends: its
// arguments (kernels/ops has them, and the formulas) are checked, an observer looks in where there
// is one, and the back end's own function does it.
// Activations are in compute_dtype(), what accumulates over layers (the residual) or is read as
// numbers (logits, cosines and sines) in wide_dtype(); weight matrices in F32, BF16 or F16, on the
// host in 8 and 4 bits too; gains, biases and mixes in F32; ids and positions in I32. Tensors are
// the caller's, on the back end's device unless said otherwise; an output never aliases an input
// unless said so. Ops may run asynchronously until Synchronize(). Not thread-safe: one thread
// drives a back end (which may use many of its own). kernels/reference defines every op; the others
// prove themselves against it.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string_view name() const = 0;  // "cpu", "reference", "cuda"
  virtual Device device() const { return Device::kCpu; }
  virtual DType compute_dtype() const = 0;
  virtual DType wide_dtype() const { return compute_dtype(); }
  ActivationDTypes dtypes() const { return {.compute = compute_dtype(), .wide = wide_dtype()}; }
  // What weight matrices must be stored in; absent where any storage format will do.
  virtual std::optional<DType> weight_dtype() const { return std::nullopt; }

  // Of every op, copy and wait from now on; null: nobody looks.
  void set_observer(std::unique_ptr<OpObserver> observer) { observer_ = std::move(observer); }

  // Absent on the host, whose memory is everybody's.
  virtual std::optional<DeviceMemory> memory() const { return std::nullopt; }
  // Allocates all memory that the ops need beside their operands; a step allocates nothing then.
  // Before the first op, and anew where limits grow. INVALID_ARGUMENT for a model that this back
  // end cannot run, RESOURCE_EXHAUSTED when there is not enough memory.
  virtual absl::Status Prepare(const BackendLimits& /*limits*/) { return absl::OkStatus(); }
  // What a model within these limits takes; statuses as of Prepare.
  virtual absl::StatusOr<BackendBytes> PlannedBytes(const BackendLimits& /*limits*/) const {
    return BackendBytes{};
  }
  virtual BackendCounters counters() const { return {}; }

  // Zero-filled device memory.
  virtual absl::StatusOr<Tensor> Allocate(std::span<const int64_t> shape, DType dtype) = 0;
  // Host memory that the device copies from and to at its full rate.
  virtual absl::StatusOr<Tensor> AllocateHost(std::span<const int64_t> shape, DType dtype) {
    return Tensor::AllocateHost(shape, dtype);
  }
  // Copies between host and device, of one shape and dtype, rows apart by any stride. The host side
  // stays untouched until Synchronize().
  void Upload(TensorView host, TensorView device) {
    Call("Upload", CopyArgs{.from = host, .to = device}, &Backend::DoUpload);
  }
  void Download(TensorView device, TensorView host) {
    Call("Download", CopyArgs{.from = device, .to = host}, &Backend::DoDownload);
  }
  // Copies within the device, likewise; ordered with the ops, but no part of a forward pass. Forks
  // pages of the cache; its rate is the roofline that others are measured by.
  void Copy(const CopyArgs& args) { Call("Copy", args, &Backend::DoCopy); }
  // Copies from another back end of this kind: behind all of the sender's ops so far, before its
  // later ones, and in order with this one's. Outside of Run. A sender that has failed makes this
  // one fail.
  void Receive(const ReceiveArgs& args) { Call("Receive", args, &Backend::DoReceive); }
  // On a device, where Embed looks for the rows of the last Sample: at a fixed place from Prepare
  // on. Empty on the host, where callers know what was drawn.
  virtual TensorView drawn() const { return {}; }

  // Runs `ops`, which calls ops of this back end and nothing else. A device may keep them as a
  // graph under `key` and launch the graph at the next call with the same key, without calling
  // `ops`: the caller promises that they would have the same arguments (contents of tensors apart).
  // A negative key promises nothing. Keys belong to whoever runs: one forward pass per back end.
  virtual void Run(int64_t /*key*/, absl::FunctionRef<void()> ops) { ops(); }
  // To how many rows a decode step of `num_rows` is filled up, so that few graphs serve all sizes.
  virtual int PaddedRows(int num_rows) const { return num_rows; }
  // Whether the first steps of a size take longer because the back end looks for the fastest way to
  // run them.
  virtual bool learns_from_first_steps() const { return false; }

  void Embed(const EmbedArgs& args) { Call("Embed", args, &Backend::DoEmbed); }
  void RmsNorm(const RmsNormArgs& args) { Call("RmsNorm", args, &Backend::DoRmsNorm); }
  void AddRmsNorm(const AddRmsNormArgs& args) { Call("AddRmsNorm", args, &Backend::DoAddRmsNorm); }
  void NormRows(const NormRowsArgs& args) { Call("NormRows", args, &Backend::DoNormRows); }
  void MatMul(const MatMulArgs& args) { Call("MatMul", args, &Backend::DoMatMul); }
  void MatMul(TensorView x, const Projection& projection) {
    MatMul({.x = x, .projections = std::span(&projection, 1)});
  }
  void GatedActivation(const GatedActivationArgs& args) {
    Call("GatedActivation", args, &Backend::DoGatedActivation);
  }
  void Moe(const MoeArgs& args) { Call("Moe", args, &Backend::DoMoe); }
  void SigmoidGate(const SigmoidGateArgs& args) {
    Call("SigmoidGate", args, &Backend::DoSigmoidGate);
  }
  void MixHeads(const MixHeadsArgs& args) { Call("MixHeads", args, &Backend::DoMixHeads); }
  void GatherRows(const GatherRowsArgs& args) { Call("GatherRows", args, &Backend::DoGatherRows); }

  void ComputeRope(const ComputeRopeArgs& args) {
    Call("ComputeRope", args, &Backend::DoComputeRope);
  }
  void PrepareQueries(const PrepareQueriesArgs& args) {
    Call("PrepareQueries", args, &Backend::DoPrepareQueries);
  }
  void AppendKv(const AppendKvArgs& args) { Call("AppendKv", args, &Backend::DoAppendKv); }
  void PrepareAndAppend(const PrepareAndAppendArgs& args) {
    Call("PrepareAndAppend", args, &Backend::DoPrepareAndAppend);
  }
  void PagedAttention(const PagedAttentionArgs& args) {
    Call("PagedAttention", args, &Backend::DoPagedAttention);
  }
  void InterleavedAttention(const InterleavedAttentionArgs& args) {
    Call("InterleavedAttention", args, &Backend::DoInterleavedAttention);
  }

  void Sample(const SampleArgs& args) { Call("Sample", args, &Backend::DoSample); }
  void TokenLogprobs(const TokenLogprobsArgs& args) {
    Call("TokenLogprobs", args, &Backend::DoTokenLogprobs);
  }

  // An event behind all ops so far. Host memory that ops before it read or write is the device's
  // until it was waited for; at most two events are not yet waited for.
  virtual int64_t RecordEvent() { return 0; }
  // Waits for the ops before an event; statuses as of Synchronize.
  [[nodiscard]] absl::Status WaitEvent(int64_t event) {
    return Wait([&] { return DoWaitEvent(event); });
  }
  // Waits for every op. INTERNAL once the device has failed: nothing computed since can be trusted,
  // and the back end is of no more use.
  [[nodiscard]] absl::Status Synchronize() {
    return Wait([&] { return DoSynchronize(); });
  }

 private:
  virtual void DoUpload(const CopyArgs& args);
  virtual void DoDownload(const CopyArgs& args);
  virtual void DoCopy(const CopyArgs& args);
  virtual void DoReceive(const ReceiveArgs& args);
  virtual void DoEmbed(const EmbedArgs& args) = 0;
  virtual void DoRmsNorm(const RmsNormArgs& args) = 0;
  virtual void DoAddRmsNorm(const AddRmsNormArgs& args) = 0;
  virtual void DoNormRows(const NormRowsArgs& args) = 0;
  virtual void DoMatMul(const MatMulArgs& args) = 0;
  virtual void DoGatedActivation(const GatedActivationArgs& args) = 0;
  virtual void DoMoe(const MoeArgs& args) = 0;
  virtual void DoSigmoidGate(const SigmoidGateArgs& args) = 0;
  virtual void DoMixHeads(const MixHeadsArgs& args) = 0;
  virtual void DoGatherRows(const GatherRowsArgs& args) = 0;
  virtual void DoComputeRope(const ComputeRopeArgs& args) = 0;
  virtual void DoPrepareQueries(const PrepareQueriesArgs& args) = 0;
  virtual void DoAppendKv(const AppendKvArgs& args) = 0;
  virtual void DoPrepareAndAppend(const PrepareAndAppendArgs& args);
  virtual void DoPagedAttention(const PagedAttentionArgs& args) = 0;
  virtual void DoInterleavedAttention(const InterleavedAttentionArgs& args) = 0;
  virtual void DoSample(const SampleArgs& args) = 0;
  virtual void DoTokenLogprobs(const TokenLogprobsArgs& args) = 0;
  virtual absl::Status DoWaitEvent(int64_t /*event*/) { return DoSynchronize(); }
  virtual absl::Status DoSynchronize() { return absl::OkStatus(); }

  // The door of every op.
  template <typename Args>
  void Call(std::string_view name, const Args& args, void (Backend::*op)(const Args&)) {
    Check(args, dtypes());
    if (observer_ == nullptr) return (this->*op)(args);
    observer_->OnOp({.name = name, .args = &args, .dtypes = dtypes()}, [&] { (this->*op)(args); });
  }
  absl::Status Wait(absl::FunctionRef<absl::Status()> wait) {
    return observer_ == nullptr ? wait() : observer_->OnWait(wait);
  }

  std::unique_ptr<OpObserver> observer_;
};

struct CpuOptions {
  int num_threads = 0;  // 0 = one per core
};

// Plain loops in double precision: the definition of every op, and the oracle of the tests.
std::unique_ptr<Backend> CreateReferenceBackend();
// Highway kernels in float32. MEA_CPU_TARGET (for example "AVX2") forces an instruction set;
// INVALID_ARGUMENT when this machine or build lacks it.
absl::StatusOr<std::unique_ptr<Backend>> CreateCpuBackend(const CpuOptions& options = {});

}  // namespace mea
