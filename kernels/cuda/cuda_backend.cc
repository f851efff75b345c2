#include "kernels/cuda/cuda_backend.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/cuda/attention/attention.h"
#include "kernels/cuda/device_info.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/recorder.h"
#include "kernels/cuda/rope/rope.h"
#include "kernels/cuda/rowwise/rowwise.h"
#include "kernels/cuda/runtime.h"
#include "kernels/cuda/sample_queue.h"
#include "kernels/draw.h"
#include "kernels/op_checks.h"

namespace mea::cuda {
namespace {

// Decode steps come in sizes 1, 2, 4, 8 and multiples of 8.
int PadRows(int num_rows) {
  int padded = 1;
  while (padded < num_rows && padded < 8) padded *= 2;
  return num_rows <= 8 ? padded : (num_rows + 7) / 8 * 8;
}

// The address of an operand on the device; null where it is absent.
template <typename T>
T* At(TensorView view) {
  if (view.empty()) return nullptr;
  MEA_CHECK(view.device == Device::kCuda);
  return view.as<T>();
}

// Whether the rows of [n, heads, d] hold their heads side by side.
bool HasDenseRows(TensorView view) {
  return view.stride[1] == view.shape[2] && view.stride[2] == 1;
}

// Side by side in memory, the second behind the first.
bool IsBehind(TensorView a, TensorView b, int64_t elements) {
  return static_cast<std::byte*>(a.data) + elements * DTypeSize(a.dtype) == b.data;
}

// Whether one product can compute both: weights and biases below each other, outputs side by side.
bool CanJoin(const Projection& a, const Projection& b) {
  return a.w.is_dense() && b.w.is_dense() && IsBehind(a.w, b.w, a.w.num_elements()) &&
         a.bias.empty() == b.bias.empty() &&
         (a.bias.empty() || IsBehind(a.bias, b.bias, a.bias.shape[0])) &&
         a.out.dtype == b.out.dtype && a.out.stride[0] == b.out.stride[0] &&
         IsBehind(a.out, b.out, a.out.shape[1]);
}

Projection Join(Projection a, const Projection& b) {
  a.w.shape[0] += b.w.shape[0];
  if (!a.bias.empty()) a.bias.shape[0] += b.bias.shape[0];
  a.out.shape[1] += b.out.shape[1];
  return a;
}

// Where everything lies in the memory that Prepare allocates.
struct Scratch {
  Gemm::Scratch gemm;
  SampleQueue::Scratch sample;
  std::byte* attention = nullptr;
};

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(const CudaOptions& options) : options_(options) {}

  absl::Status Start() {
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

  std::string_view name() const override { return "cuda"; }
  Device device() const override { return Device::kCuda; }
  DType compute_dtype() const override { return DType::kBf16; }
  DType wide_dtype() const override { return DType::kF32; }
  std::optional<DType> weight_dtype() const override { return DType::kBf16; }
  BackendCounters counters() const override { return runtime_->counters(); }

  std::optional<DeviceMemory> memory() const override { return runtime_->memory(); }

  absl::Status Prepare(const BackendLimits& limits) override;
  int64_t PlannedBytes(const BackendLimits& limits) const override;

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
  int PaddedRows(int num_rows) const override {
    return std::max(num_rows, std::min(PadRows(num_rows), max_seqs_));
  }

  void Embed(TensorView table, TensorView ids, TensorView out) override;
  void RmsNorm(TensorView x, TensorView gain, float eps, TensorView out) override;
  void AddRmsNorm(TensorView delta, TensorView residual, TensorView gain, float eps,
                  TensorView out) override;
  void MatMul(TensorView x, std::span<const Projection> projections) override;
  void SwiGlu(TensorView gate, TensorView up, TensorView out) override;
  void GatherRows(TensorView x, TensorView rows, TensorView out) override;
  void ComputeRope(const RopeArgs& args) override;
  void PrepareQueries(const PrepareQueriesArgs& args) override;
  void AppendKv(const AppendKvArgs& args) override;
  void PagedAttention(const PagedAttentionArgs& args) override;
  void Sample(TensorView logits, std::span<const SampleRow> rows, std::span<const LogitEdit> edits,
              std::span<SampledToken> tokens) override;
  void TokenLogprobs(TensorView logits, std::span<const int32_t> targets,
                     std::span<float> logprobs) override;

  absl::Status Synchronize() override;

 private:
  static constexpr DType kCompute = DType::kBf16;
  static ActivationDTypes DTypes() { return {DType::kBf16, DType::kF32}; }

  absl::StatusOr<AttentionPlan> Plan(const BackendLimits& limits) const;
  Scratch Carve(const BackendLimits& limits, const AttentionPlan& attention, Carver& device,
                Carver& host) const;

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
  std::unique_ptr<Runtime> runtime_;  // first: everything below uses it to its own end
  Tensor device_scratch_, host_scratch_;
  std::unique_ptr<Gemm> gemm_;
  std::optional<Recorder> recorder_;
  std::optional<SampleQueue> samples_;
  std::optional<cuda::PagedAttention> attention_;
  int max_seqs_ = 0;
  bool in_run_ = false;
  bool step_has_begun_ = false;  // attention knows the lengths of the run's step
};

// ---- Memory.

// What the kernels cannot do, named before anything is allocated.
absl::Status CheckLimits(const BackendLimits& limits) {
  const auto refuse = [](absl::string_view what, int value, int most) -> absl::Status {
    return absl::InvalidArgumentError(
        absl::StrCat("the CUDA back end takes no ", what, " of ", value, ", only up to ", most));
  };
  if (limits.hidden_size > kMaxNormHidden) {
    return refuse("hidden size", limits.hidden_size, kMaxNormHidden);
  }
  if (limits.vocab_size > kMaxSampleVocab) {
    return refuse("vocabulary", limits.vocab_size, kMaxSampleVocab);
  }
  for (const AttentionKind& kind : limits.attention) {
    if (kind.head_dim > kMaxRopeHeadDim) return refuse("head", kind.head_dim, kMaxRopeHeadDim);
  }
  return absl::OkStatus();
}

absl::StatusOr<AttentionPlan> CudaBackend::Plan(const BackendLimits& limits) const {
  // The cache may have larger pages than the limits say, and tiled ones need the most.
  constexpr int kTile = SlabLayout::kTileTokens;
  const int page_size = (limits.page_size + kTile - 1) / kTile * kTile;
  std::vector<AttentionShape> shapes;
  for (const AttentionKind& kind : limits.attention) {
    shapes.push_back({.q_heads = kind.q_heads,
                      .kv_heads = kind.kv_heads,
                      .head_dim = kind.head_dim,
                      .page_size = page_size,
                      .window = kind.window,
                      .is_composed = kind.is_composed});
  }
  return PlanAttention({.max_rows = std::max(limits.max_rows, limits.max_seqs),
                        .max_seqs = limits.max_seqs,
                        .max_context = limits.max_context,
                        .num_sms = runtime_->num_sms(),
                        .sm_version = runtime_->sm_version()},
                       shapes);
}

Scratch CudaBackend::Carve(const BackendLimits& limits, const AttentionPlan& attention,
                           Carver& device, Carver& host) const {
  return {.gemm = gemm_->Carve(limits.products, device),
          .sample = SampleQueue::Carve(limits, device, host),
          .attention = device.Take(attention.workspace_bytes)};
}

int64_t CudaBackend::PlannedBytes(const BackendLimits& limits) const {
  const absl::StatusOr<AttentionPlan> plan = Plan(limits);
  if (!plan.ok()) return 0;
  Carver device, host;
  Carve(limits, *plan, device, host);
  return device.bytes();
}

absl::Status CudaBackend::Prepare(const BackendLimits& limits) {
  if (absl::Status status = CheckLimits(limits); !status.ok()) return status;
  const absl::StatusOr<AttentionPlan> plan = Plan(limits);
  if (!plan.ok()) return plan.status();
  Carver device_size, host_size;
  Carve(limits, *plan, device_size, host_size);

  // Records and work under way may still use the memory that there was.
  recorder_->Clear();
  if (absl::Status status = Synchronize(); !status.ok()) return status;
  device_scratch_ = host_scratch_ = Tensor();
  const std::array<int64_t, 1> device_shape = {device_size.bytes() / 4};
  absl::StatusOr<Tensor> device = runtime_->AllocateDevice(device_shape, DType::kI32);
  if (!device.ok()) return device.status();
  const std::array<int64_t, 1> host_shape = {host_size.bytes() / 4};
  absl::StatusOr<Tensor> host = runtime_->AllocatePinned(host_shape, DType::kI32);
  if (!host.ok()) return host.status();
  device_scratch_ = *std::move(device);
  host_scratch_ = *std::move(host);

  Carver device_parts(static_cast<std::byte*>(device_scratch_.view().data));
  Carver host_parts(static_cast<std::byte*>(host_scratch_.view().data));
  const Scratch scratch = Carve(limits, *plan, device_parts, host_parts);
  gemm_->set_scratch(scratch.gemm);
  samples_->set_scratch(scratch.sample);
  attention_.emplace(*plan, scratch.attention);
  max_seqs_ = limits.max_seqs;
  return absl::OkStatus();
}

// ---- Running.

void CudaBackend::Run(int64_t key, absl::FunctionRef<void()> ops) {
  in_run_ = true;
  step_has_begun_ = false;
  recorder_->Run(key, ops);
  in_run_ = false;
}

absl::Status CudaBackend::Synchronize() {
  absl::Status status = runtime_->Synchronize();
  if (status.ok()) samples_->Collect();
  return status;
}

// ---- Rows.

void CudaBackend::Embed(TensorView table, TensorView ids, TensorView out) {
  CheckEmbed(table, ids, out, DTypes());
  Launched("Embed", [&](cudaStream_t stream) {
    return LaunchEmbed({.table = At<Bf16>(table),
                        .table_stride = table.stride[0],
                        .ids = At<int32_t>(ids),
                        .out = At<float>(out),
                        .out_stride = out.stride[0],
                        .num_tokens = static_cast<int>(ids.shape[0]),
                        .hidden = static_cast<int>(table.shape[1])},
                       stream);
  });
}

void CudaBackend::RmsNorm(TensorView x, TensorView gain, float eps, TensorView out) {
  CheckRmsNorm(x, gain, out, DTypes());
  Launched("RmsNorm", [&](cudaStream_t stream) {
    return LaunchRmsNorm({.x = At<float>(x),
                          .x_stride = x.stride[0],
                          .gain = At<float>(gain),
                          .eps = eps,
                          .out = At<Bf16>(out),
                          .out_stride = out.stride[0],
                          .num_tokens = static_cast<int>(x.shape[0]),
                          .hidden = static_cast<int>(x.shape[1])},
                         stream);
  });
}

void CudaBackend::AddRmsNorm(TensorView delta, TensorView residual, TensorView gain, float eps,
                             TensorView out) {
  CheckAddRmsNorm(delta, residual, gain, out, DTypes());
  Launched("AddRmsNorm", [&](cudaStream_t stream) {
    return LaunchAddRmsNorm({.delta = At<Bf16>(delta),
                             .delta_stride = delta.stride[0],
                             .residual = At<float>(residual),
                             .residual_stride = residual.stride[0],
                             .gain = At<float>(gain),
                             .eps = eps,
                             .out = At<Bf16>(out),
                             .out_stride = out.stride[0],
                             .num_tokens = static_cast<int>(delta.shape[0]),
                             .hidden = static_cast<int>(delta.shape[1])},
                            stream);
  });
}

void CudaBackend::MatMul(TensorView x, std::span<const Projection> projections) {
  MEA_CHECK(!device_scratch_.view().empty());  // Prepare comes first
  At<Bf16>(x);
  for (const Projection& p : projections) {
    CheckMatMul(x, p, DTypes());
    At<Bf16>(p.w);
    At<float>(p.bias);
  }
  Op("MatMul", [&] {
    for (size_t i = 0; i < projections.size();) {
      Projection joined = projections[i];
      for (++i; i < projections.size() && CanJoin(joined, projections[i]); ++i) {
        joined = Join(joined, projections[i]);
      }
      gemm_->Run(x, joined);
    }
  });
}

void CudaBackend::SwiGlu(TensorView gate, TensorView up, TensorView out) {
  CheckSwiGlu(gate, up, out, DTypes());
  Launched("SwiGlu", [&](cudaStream_t stream) {
    return LaunchSwiGlu({.gate = At<Bf16>(gate),
                         .gate_stride = gate.stride[0],
                         .up = At<Bf16>(up),
                         .up_stride = up.stride[0],
                         .out = At<Bf16>(out),
                         .out_stride = out.stride[0],
                         .num_tokens = static_cast<int>(gate.shape[0]),
                         .ffn = static_cast<int>(gate.shape[1])},
                        stream);
  });
}

void CudaBackend::GatherRows(TensorView x, TensorView rows, TensorView out) {
  CheckGatherRows(x, rows, out, DTypes());
  Launched("GatherRows", [&](cudaStream_t stream) {
    return LaunchGatherRows({.x = At<Bf16>(x),
                             .x_stride = x.stride[0],
                             .rows = At<int32_t>(rows),
                             .out = At<Bf16>(out),
                             .out_stride = out.stride[0],
                             .num_rows = static_cast<int>(rows.shape[0]),
                             .hidden = static_cast<int>(x.shape[1])},
                            stream);
  });
}

// ---- Attention.

void CudaBackend::ComputeRope(const RopeArgs& args) {
  CheckComputeRope(args, DTypes());
  MEA_CHECK(args.out.is_dense());
  Launched("ComputeRope", [&](cudaStream_t stream) {
    return LaunchComputeRope({.positions = At<int32_t>(args.positions),
                              .inv_freq = At<double>(args.inv_freq),
                              .attention_factor = args.attention_factor,
                              .cos_sin = At<float>(args.out),
                              .num_tokens = static_cast<int>(args.positions.shape[0]),
                              .head_dim = static_cast<int>(args.out.shape[1])},
                             stream);
  });
}

void CudaBackend::PrepareQueries(const PrepareQueriesArgs& args) {
  CheckPrepareQueries(args, DTypes());
  MEA_CHECK(HasDenseRows(args.q) && args.cos_sin.is_dense());
  Launched("PrepareQueries", [&](cudaStream_t stream) {
    return LaunchPrepareQueries({.q = At<Bf16>(args.q),
                                 .q_stride = args.q.stride[0],
                                 .gain = At<float>(args.gain),
                                 .eps = args.eps,
                                 .cos_sin = At<float>(args.cos_sin),
                                 .num_tokens = static_cast<int>(args.q.shape[0]),
                                 .q_heads = static_cast<int>(args.q.shape[1]),
                                 .head_dim = static_cast<int>(args.q.shape[2])},
                                stream);
  });
}

void CudaBackend::AppendKv(const AppendKvArgs& args) {
  CheckAppendKv(args, DTypes());
  MEA_CHECK(HasDenseRows(args.k) && HasDenseRows(args.v) && args.cos_sin.is_dense());
  const PagedKvView& kv = args.kv;
  Launched("AppendKv", [&](cudaStream_t stream) {
    return LaunchAppendKv({.k = At<Bf16>(args.k),
                           .k_stride = args.k.stride[0],
                           .v = At<Bf16>(args.v),
                           .v_stride = args.v.stride[0],
                           .slots = At<int32_t>(args.slots),
                           .gain = At<float>(args.gain),
                           .eps = args.eps,
                           .key_mix = At<float>(args.key_mix),
                           .cos_sin = At<float>(args.cos_sin),
                           .keys = At<Bf16>(kv.keys),
                           .values = At<Bf16>(kv.values),
                           .key_norms = At<float>(kv.key_norms),
                           .num_tokens = static_cast<int>(args.k.shape[0]),
                           .key_heads = kv.spec.key_heads,
                           .value_heads = kv.spec.value_heads,
                           .key_norm_heads = kv.spec.key_norm_heads,
                           .head_dim = kv.spec.head_dim,
                           .page_size = kv.page_size},
                          stream);
  });
}

void CudaBackend::PagedAttention(const PagedAttentionArgs& args) {
  CheckPagedAttention(args, DTypes());
  CheckSequenceLengths(args, args.host_q_offsets, args.host_kv_lens);
  MEA_CHECK(attention_.has_value());  // Prepare comes first
  MEA_CHECK(HasDenseRows(args.q) && args.out.is_dense());
  // Within a run all layers share the step's work lists; outside every call is a step of its own.
  if (!in_run_ || !std::exchange(step_has_begun_, true)) {
    attention_->BeginStep(args.host_q_offsets, args.host_kv_lens);
  }
  const PagedKvView& kv = args.kv;
  const AttentionParams params{.q = At<Bf16>(args.q),
                               .q_stride = args.q.stride[0],
                               .q_offsets = At<int32_t>(args.q_offsets),
                               .kv_lens = At<int32_t>(args.kv_lens),
                               .page_table = At<int32_t>(args.page_table),
                               .keys = At<Bf16>(kv.keys),
                               .values = At<Bf16>(kv.values),
                               .key_norms = At<float>(kv.key_norms),
                               .key_mix = At<float>(args.mix.key),
                               .value_mix = At<float>(args.mix.value),
                               .head_norm_gain = At<float>(args.head_norm_gain),
                               .out = At<Bf16>(args.out),
                               .num_rows = static_cast<int>(args.q.shape[0]),
                               .num_seqs = static_cast<int>(args.kv_lens.shape[0]),
                               .page_table_stride = static_cast<int>(args.page_table.stride[0]),
                               .q_heads = static_cast<int>(args.q.shape[1]),
                               .kv_heads = args.kv_heads,
                               .key_heads = kv.spec.key_heads,
                               .value_heads = kv.spec.value_heads,
                               .head_dim = kv.spec.head_dim,
                               .page_size = kv.page_size,
                               .window = args.window,
                               .scale = static_cast<float>(args.scale),
                               .head_norm_eps = args.head_norm_eps};
  const AttentionOptions how{.kernel = options_.decode_kernel};
  Launched("PagedAttention",
           [&](cudaStream_t stream) { return attention_->Run(params, how, stream); });
}

// ---- Sampling.

void CudaBackend::Sample(TensorView logits, std::span<const SampleRow> rows,
                         std::span<const LogitEdit> edits, std::span<SampledToken> tokens) {
  CheckSample(logits, rows.size(), tokens.size(), DTypes());
  MEA_CHECK(!device_scratch_.view().empty());  // Prepare comes first
  At<float>(logits);
  Op("Sample", [&] { samples_->Sample(logits, rows, edits, tokens); });
}

void CudaBackend::TokenLogprobs(TensorView logits, std::span<const int32_t> targets,
                                std::span<float> logprobs) {
  CheckSample(logits, targets.size(), logprobs.size(), DTypes());
  MEA_CHECK(!device_scratch_.view().empty());  // Prepare comes first
  At<float>(logits);
  Op("TokenLogprobs", [&] { samples_->TokenLogprobs(logits, targets, logprobs); });
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> CreateCudaBackend(const CudaOptions& options) {
  const absl::StatusOr<CudaDeviceInfo> info = DescribeDevice(options.device);
  if (!info.ok()) return info.status();
  auto backend = std::make_unique<CudaBackend>(options);
  if (absl::Status status = backend->Start(); !status.ok()) return status;
  return backend;
}

}  // namespace mea::cuda
