#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/attention_schedule.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/matmul_schedule.h"
#include "kernels/cpu/moe_schedule.h"
#include "kernels/cpu/rope.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/host_sample.h"
#include "kernels/int8_rows.h"
#include "kernels/op_checks.h"

namespace mea {
namespace {

// Rows that one item of a cheap row-wise op takes, so that handing items out costs little.
constexpr int64_t kRowsPerItem = 8;

class CpuBackend final : public Backend {
 public:
  CpuBackend(const cpu::KernelTable& kernels, int num_threads)
      : kernels_(kernels),
        pool_(num_threads),
        scratch_(pool_.num_threads()),
        samplers_(pool_.num_threads()) {}

  std::string_view name() const override { return "cpu"; }
  DType compute_dtype() const override { return DType::kF32; }

  absl::StatusOr<Tensor> Allocate(std::span<const int64_t> shape, DType dtype) override {
    return Tensor::AllocateHost(shape, dtype);
  }

  void Embed(TensorView table, TensorView ids, TensorView out) override {
    CheckEmbed(table, ids, out, DType::kF32);
    ForRows(ids.shape[0], [&](int64_t t) {
      const int32_t id = ids.as<int32_t>()[t];
      switch (table.dtype) {
        case DType::kBf16:
          return WidenRow(table.row<Bf16>(id), table.shape[1], out.row<float>(t));
        case DType::kF16:
          return WidenRow(table.row<F16>(id), table.shape[1], out.row<float>(t));
        case DType::kI8:
          return ScaleRow(table.row<int8_t>(id), table.shape[1], out.row<float>(t));
        default:
          std::copy_n(table.row<float>(id), table.shape[1], out.row<float>(t));
      }
    });
  }

  void RmsNorm(TensorView x, TensorView gain, float eps, TensorView out) override {
    CheckRmsNorm(x, gain, out, DType::kF32);
    ForRows(x.shape[0], [&](int64_t t) {
      kernels_.rms_norm(x.row<float>(t), gain.as<float>(), eps, x.shape[1], out.row<float>(t));
    });
  }

  void AddRmsNorm(TensorView delta, TensorView residual, TensorView gain, float eps,
                  TensorView out) override {
    CheckAddRmsNorm(delta, residual, gain, out, DType::kF32);
    ForRows(delta.shape[0], [&](int64_t t) {
      kernels_.add_rms_norm(delta.row<float>(t), residual.row<float>(t), gain.as<float>(), eps,
                            delta.shape[1], out.row<float>(t));
    });
  }

  void MatMul(TensorView x, std::span<const Projection> projections) override {
    for (const Projection& p : projections) {
      CheckMatMul(x, p, DType::kF32);
      matmul_.Run({.x = x, .w = p.w, .bias = p.bias, .out = p.out}, kernels_.matmul, pool_,
                  scratch_);
    }
  }

  void SwiGlu(TensorView gate, TensorView up, TensorView out) override {
    CheckSwiGlu(gate, up, out, DType::kF32);
    ForRows(gate.shape[0], [&](int64_t t) {
      kernels_.swi_glu(gate.row<float>(t), up.row<float>(t), gate.shape[1], out.row<float>(t));
    });
  }

  void Moe(const MoeArgs& args) override {
    CheckMoe(args, DType::kF32);
    moe_.Run(args, kernels_, pool_, scratch_);
  }

  void SigmoidGate(TensorView gate, TensorView up, float scale, TensorView out) override {
    CheckSigmoidGate(gate, up, out, DType::kF32);
    ForRows(gate.shape[0], [&](int64_t t) {
      kernels_.sigmoid_gate(gate.row<float>(t), up.row<float>(t), scale, gate.shape[1],
                            out.row<float>(t));
    });
  }

  void MixHeads(TensorView x, TensorView mix, TensorView out) override {
    CheckMixHeads(x, mix, out, DType::kF32);
    ForRows(x.shape[0], [&](int64_t t) {
      kernels_.mix_heads({.x = x.row<float>(t),
                          .x_stride = x.stride[1],
                          .mix = mix.as<float>(),
                          .mix_stride = mix.stride[0],
                          .out = out.row<float>(t),
                          .out_stride = out.stride[1],
                          .in_heads = x.shape[1],
                          .out_heads = out.shape[1],
                          .head_dim = x.shape[2]});
    });
  }

  void GatherRows(TensorView x, TensorView rows, TensorView out) override {
    CheckGatherRows(x, rows, out, DType::kF32);
    ForRows(rows.shape[0], [&](int64_t t) {
      std::copy_n(x.row<float>(rows.as<int32_t>()[t]), x.shape[1], out.row<float>(t));
    });
  }

  void ComputeRope(const RopeArgs& args) override {
    CheckComputeRope(args, DType::kF32);
    ForRows(args.out.shape[0], [&](int64_t t) { cpu::ComputeRopeRow(args, t); });
  }
  void PrepareQueries(const PrepareQueriesArgs& args) override {
    CheckPrepareQueries(args, DType::kF32);
    ForRows(args.q.shape[0], [&](int64_t t) { cpu::PrepareQueryRow(args, t); });
  }
  void AppendKv(const AppendKvArgs& args) override {
    CheckAppendKv(args, DType::kF32);
    CheckPageSize(args.kv);
    ForRows(args.k.shape[0], [&](int64_t t) { cpu::AppendKvRow(args, t); });
  }
  void PagedAttention(const PagedAttentionArgs& args) override {
    CheckPagedAttention(args, DType::kF32);
    CheckSequenceLengths(args, args.q_offsets.values<int32_t>(), args.kv_lens.values<int32_t>());
    CheckCache(args);
    attention_.Run(args, kernels_.attention, pool_, scratch_);
  }
  void InterleavedAttention(const InterleavedAttentionArgs& args) override {
    CheckInterleavedAttention(args, DType::kF32);
    CheckSequenceLengths(args.paged, args.paged.q_offsets.values<int32_t>(),
                         args.paged.kv_lens.values<int32_t>());
    CheckCache(args.paged);
    attention_.Run(args, kernels_.interleaved_attention, pool_, scratch_);
  }

  void Sample(TensorView logits, std::span<const SampleRow> rows, std::span<const LogitEdit> edits,
              std::span<const uint32_t> masks, std::span<SampledToken> tokens) override {
    CheckSample(logits, rows, masks, tokens.size(), DType::kF32);
    for (HostSampler& sampler : samplers_) sampler.Expect(logits.shape[1]);
    pool_.ParallelFor(std::ssize(rows), [&](int64_t i, int thread) {
      tokens[i] = samplers_[thread].Sample(Row(logits, i), rows[i], edits, masks);
    });
  }

  void TokenLogprobs(TensorView logits, std::span<const int32_t> targets,
                     std::span<float> logprobs) override {
    CheckTokenLogprobs(logits, targets.size(), logprobs.size(), DType::kF32);
    pool_.ParallelFor(std::ssize(targets), [&](int64_t i, int) {
      const std::span<const float> row = Row(logits, i);
      logprobs[i] = static_cast<float>(row[targets[i]] - LogSumExp(row));
    });
  }

 private:
  static std::span<const float> Row(TensorView logits, int64_t i) {
    return {logits.row<float>(i), static_cast<size_t>(logits.shape[1])};
  }

  template <typename Body>
  void ForRows(int64_t num_rows, const Body& body) {
    const int64_t num_items = (num_rows + kRowsPerItem - 1) / kRowsPerItem;
    pool_.ParallelFor(num_items, [&](int64_t item, int) {
      const int64_t end = std::min(num_rows, (item + 1) * kRowsPerItem);
      for (int64_t row = item * kRowsPerItem; row < end; ++row) body(row);
    });
  }

  template <typename T>
  static void WidenRow(const T* row, int64_t count, float* out) {
    for (int64_t i = 0; i < count; ++i) out[i] = ToFloat(row[i]);
  }

  static void ScaleRow(const int8_t* row, int64_t count, float* out) {
    const float scale = Int8Scale(row, count);
    for (int64_t i = 0; i < count; ++i) out[i] = static_cast<float>(row[i]) * scale;
  }

  static void CheckPageSize(const PagedKvView& kv) {
    MEA_CHECK(kv.page_size % cpu::kTileTokens == 0);
    MEA_CHECK(kv.key_norms.empty() || kv.key_norms.dtype == DType::kF32);
  }

  static void CheckCache(const PagedAttentionArgs& args) {
    CheckPageSize(args.kv);
    for (const int32_t kv_len : args.kv_lens.values<int32_t>()) MEA_CHECK(kv_len > 0);
  }

  const cpu::KernelTable kernels_;
  ThreadPool pool_;
  std::vector<cpu::Scratch> scratch_;  // [num_threads]
  std::vector<HostSampler> samplers_;  // [num_threads]
  cpu::MatMulSchedule matmul_;
  cpu::MoeSchedule moe_;
  cpu::AttentionSchedule attention_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> CreateCpuBackend(const CpuOptions& options) {
  if (options.num_threads < 0) {
    return absl::InvalidArgumentError("num_threads is negative");
  }
  const char* target = std::getenv("MEA_CPU_TARGET");
  absl::StatusOr<cpu::KernelTable> kernels = cpu::SelectKernels(target == nullptr ? "" : target);
  if (!kernels.ok()) return kernels.status();
  return std::make_unique<CpuBackend>(*kernels, options.num_threads);
}

}  // namespace mea
