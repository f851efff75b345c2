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
#include "kernels/int4_rows.h"
#include "kernels/int8_rows.h"
#include "kernels/status_macros.h"
#include "kernels/thread_plan.h"

namespace mea {
namespace {

// Rows that one item of a cheap row-wise op takes, so that handing items out costs little.
constexpr int64_t kRowsPerItem = 8;

class CpuBackend final : public Backend {
 public:
  CpuBackend(const cpu::KernelTable& kernels, ThreadPlan plan)
      : kernels_(kernels),
        pool_(std::move(plan)),
        scratch_(pool_.num_threads()),
        samplers_(pool_.num_threads()) {}

  std::string_view name() const override { return "cpu"; }
  DType compute_dtype() const override { return DType::kF32; }

  absl::StatusOr<Tensor> Allocate(std::span<const int64_t> shape, DType dtype) override {
    return Tensor::AllocateHost(shape, dtype);
  }

 private:
  void DoEmbed(const EmbedArgs& args) override {
    const auto& [table, ids, scale, out] = args;
    const int64_t hidden = table.shape[1];
    ForRows(ids.shape[0], [&](int64_t t) {
      const int32_t id = ids.as<int32_t>()[t];
      float* const row = out.row<float>(t);
      switch (table.dtype) {
        case DType::kBf16:
          return WidenRow(table.row<Bf16>(id), hidden, scale, row);
        case DType::kF16:
          return WidenRow(table.row<F16>(id), hidden, scale, row);
        case DType::kI8: {
          const int8_t* const entry = table.row<int8_t>(id);
          return WidenRow(entry, hidden, scale * Int8Scale(entry, hidden), row);
        }
        case DType::kI4:
          WidenInt4Row(table, id, row);
          return WidenRow(row, hidden, scale, row);
        default:
          WidenRow(table.row<float>(id), hidden, scale, row);
      }
    });
  }

  void DoGatherRows(const GatherRowsArgs& args) override {
    const auto& [x, rows, out] = args;
    ForRows(rows.shape[0], [&](int64_t t) {
      std::copy_n(x.row<float>(rows.as<int32_t>()[t]), x.shape[1], out.row<float>(t));
    });
  }

  void DoRmsNorm(const RmsNormArgs& args) override { EachRow(kernels_.rows.rms_norm, args); }
  void DoAddRmsNorm(const AddRmsNormArgs& args) override {
    EachRow(kernels_.rows.add_rms_norm, args);
  }
  void DoNormRows(const NormRowsArgs& args) override { EachRow(kernels_.rows.norm_rows, args); }
  void DoGatedActivation(const GatedActivationArgs& args) override {
    EachRow(kernels_.rows.gated_activation, args);
  }
  void DoSigmoidGate(const SigmoidGateArgs& args) override {
    EachRow(kernels_.rows.sigmoid_gate, args);
  }
  void DoMixHeads(const MixHeadsArgs& args) override { EachRow(kernels_.rows.mix_heads, args); }
  void DoComputeRope(const ComputeRopeArgs& args) override { EachRow(cpu::ComputeRopeRow, args); }
  void DoPrepareQueries(const PrepareQueriesArgs& args) override {
    ForTokens(args.q.shape[0], [&](int64_t begin, int64_t end) {
      kernels_.prepare_append.prepare_queries(args, begin, end);
    });
  }
  void DoAppendKv(const AppendKvArgs& args) override {
    CheckPageSize(args.kv);
    ForTokens(args.k.shape[0], [&](int64_t begin, int64_t end) {
      kernels_.prepare_append.append_kv(args, begin, end);
    });
  }
  void DoPrepareAndAppend(const PrepareAndAppendArgs& args) override {
    CheckPageSize(args.kv.kv);
    ForTokens(args.kv.k.shape[0], [&](int64_t begin, int64_t end) {
      kernels_.prepare_append.prepare_queries(args.queries, begin, end);
      kernels_.prepare_append.append_kv(args.kv, begin, end);
    });
  }

  void DoMatMul(const MatMulArgs& args) override {
    matmul_.Run(args, kernels_.matmul, pool_, scratch_);
  }
  void DoMoe(const MoeArgs& args) override { moe_.Run(args, kernels_, pool_, scratch_); }

  void DoPagedAttention(const PagedAttentionArgs& args) override {
    CheckCache(args);
    attention_.Run(args, kernels_.attention, pool_, scratch_);
  }
  void DoInterleavedAttention(const InterleavedAttentionArgs& args) override {
    CheckCache(args.paged);
    attention_.Run(args, kernels_.interleaved_attention, pool_, scratch_);
  }

  void DoSample(const SampleArgs& args) override {
    for (HostSampler& sampler : samplers_) sampler.Expect(args.logits.shape[1]);
    pool_.ParallelFor(std::ssize(args.rows), [&](int64_t i, int thread) {
      args.tokens[i] =
          samplers_[thread].Sample(Row(args.logits, i), args.rows[i], args.edits, args.masks);
    });
  }
  void DoTokenLogprobs(const TokenLogprobsArgs& args) override {
    pool_.ParallelFor(std::ssize(args.targets), [&](int64_t i, int) {
      const std::span<const float> row = Row(args.logits, i);
      args.logprobs[i] = static_cast<float>(row[args.targets[i]] - LogSumExp(row));
    });
  }

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

  // body(begin, end) for all tokens. Those of a prompt are dealt by tiles of the cache.
  template <typename Body>
  void ForTokens(int64_t num_tokens, const Body& body) {
    const int64_t share = (num_tokens + pool_.num_threads() - 1) / pool_.num_threads();
    const int64_t tokens = std::clamp<int64_t>(share, 1, cpu::kTileTokens);
    pool_.ParallelFor((num_tokens + tokens - 1) / tokens, [&](int64_t item, int) {
      body(item * tokens, std::min(num_tokens, (item + 1) * tokens));
    });
  }

  // kernel(args, row) for every row of the result.
  template <typename Kernel, typename Args>
  void EachRow(Kernel kernel, const Args& args) {
    ForRows(args.out.shape[0], [&](int64_t row) { kernel(args, row); });
  }

  template <typename T>
  static void WidenRow(const T* row, int64_t count, float scale, float* out) {
    for (int64_t i = 0; i < count; ++i) {
      if constexpr (std::is_arithmetic_v<T>) {
        out[i] = scale * static_cast<float>(row[i]);
      } else {
        out[i] = scale * ToFloat(row[i]);
      }
    }
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
  return CreateCpuBackend(
      AnyThreads(options.num_threads == 0 ? DefaultThreads() : options.num_threads));
}

absl::StatusOr<std::unique_ptr<Backend>> CreateCpuBackend(ThreadPlan plan) {
  const char* target = std::getenv("MEA_CPU_TARGET");
  MEA_ASSIGN_OR_RETURN(cpu::KernelTable kernels,
                       cpu::SelectKernels(target == nullptr ? "" : target));
  return std::make_unique<CpuBackend>(kernels, std::move(plan));
}

}  // namespace mea
