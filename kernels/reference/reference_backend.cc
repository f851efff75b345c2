#include <cmath>
#include <vector>

#include "kernels/backend.h"
#include "kernels/host_sample.h"
#include "kernels/op_checks.h"
#include "kernels/reference/attention.h"
#include "kernels/reference/elements.h"
#include "kernels/reference/moe.h"

namespace mea {
namespace {

using reference::Load;
using reference::LoadRow;
using reference::Offset;
using reference::Store;

// The definition of every op: one plain loop each, in double precision, in one thread.
class ReferenceBackend final : public Backend {
 public:
  std::string_view name() const override { return "reference"; }
  DType compute_dtype() const override { return DType::kF64; }

  absl::StatusOr<Tensor> Allocate(std::span<const int64_t> shape, DType dtype) override {
    return Tensor::AllocateHost(shape, dtype);
  }

  void Embed(TensorView table, TensorView ids, TensorView out) override {
    CheckEmbed(table, ids, out, DType::kF64);
    for (int64_t t = 0; t < ids.shape[0]; ++t) {
      const int64_t row = Offset(table, ids.as<int32_t>()[t]);
      for (int64_t i = 0; i < table.shape[1]; ++i) out.row<double>(t)[i] = Load(table, row + i);
    }
  }

  void RmsNorm(TensorView x, TensorView gain, float eps, TensorView out) override {
    CheckRmsNorm(x, gain, out, DType::kF64);
    const int64_t hidden = x.shape[1];
    for (int64_t t = 0; t < x.shape[0]; ++t) {
      const double* in = x.row<double>(t);
      double sum = 0;
      for (int64_t i = 0; i < hidden; ++i) sum += in[i] * in[i];
      const double inverse_rms = 1.0 / std::sqrt(sum / static_cast<double>(hidden) + eps);
      for (int64_t i = 0; i < hidden; ++i) {
        out.row<double>(t)[i] = Load(gain, i) * (in[i] * inverse_rms);
      }
    }
  }

  void AddRmsNorm(TensorView delta, TensorView residual, TensorView gain, float eps,
                  TensorView out) override {
    CheckAddRmsNorm(delta, residual, gain, out, DType::kF64);
    for (int64_t t = 0; t < delta.shape[0]; ++t) {
      for (int64_t i = 0; i < delta.shape[1]; ++i) {
        residual.row<double>(t)[i] += delta.row<double>(t)[i];
      }
    }
    RmsNorm(residual, gain, eps, out);
  }

  void MatMul(TensorView x, std::span<const Projection> projections) override {
    for (const Projection& projection : projections) Project(x, projection);
  }

  void SwiGlu(TensorView gate, TensorView up, TensorView out) override {
    CheckSwiGlu(gate, up, out, DType::kF64);
    for (int64_t t = 0; t < gate.shape[0]; ++t) {
      for (int64_t i = 0; i < gate.shape[1]; ++i) {
        const double g = gate.row<double>(t)[i];
        out.row<double>(t)[i] = g / (1.0 + std::exp(-g)) * up.row<double>(t)[i];
      }
    }
  }

  void Moe(const MoeArgs& args) override {
    CheckMoe(args, DType::kF64);
    reference::Moe(args);
  }

  void SigmoidGate(TensorView gate, TensorView up, float scale, TensorView out) override {
    CheckSigmoidGate(gate, up, out, DType::kF64);
    for (int64_t t = 0; t < gate.shape[0]; ++t) {
      for (int64_t i = 0; i < gate.shape[1]; ++i) {
        const double g = gate.row<double>(t)[i];
        out.row<double>(t)[i] = scale / (1.0 + std::exp(-g)) * up.row<double>(t)[i];
      }
    }
  }

  void MixHeads(TensorView x, TensorView mix, TensorView out) override {
    CheckMixHeads(x, mix, out, DType::kF64);
    for (int64_t t = 0; t < x.shape[0]; ++t) {
      for (int64_t g = 0; g < out.shape[1]; ++g) {
        for (int64_t i = 0; i < x.shape[2]; ++i) {
          double sum = 0;
          for (int64_t c = 0; c < x.shape[1]; ++c) {
            sum += Load(mix, Offset(mix, c, g)) * Load(x, Offset(x, t, c, i));
          }
          Store(out, Offset(out, t, g, i), sum);
        }
      }
    }
  }

  void GatherRows(TensorView x, TensorView rows, TensorView out) override {
    CheckGatherRows(x, rows, out, DType::kF64);
    for (int64_t t = 0; t < rows.shape[0]; ++t) {
      const double* row = x.row<double>(rows.as<int32_t>()[t]);
      for (int64_t i = 0; i < x.shape[1]; ++i) out.row<double>(t)[i] = row[i];
    }
  }

  void ComputeRope(const RopeArgs& args) override {
    CheckComputeRope(args, DType::kF64);
    reference::ComputeRope(args);
  }
  void PrepareQueries(const PrepareQueriesArgs& args) override {
    CheckPrepareQueries(args, DType::kF64);
    reference::PrepareQueries(args);
  }
  void AppendKv(const AppendKvArgs& args) override {
    CheckAppendKv(args, DType::kF64);
    reference::AppendKv(args);
  }
  void PagedAttention(const PagedAttentionArgs& args) override {
    CheckPagedAttention(args, DType::kF64);
    CheckSequenceLengths(args, args.q_offsets.values<int32_t>(), args.kv_lens.values<int32_t>());
    reference::PagedAttention(args);
  }
  void InterleavedAttention(const InterleavedAttentionArgs& args) override {
    CheckInterleavedAttention(args, DType::kF64);
    CheckSequenceLengths(args.paged, args.paged.q_offsets.values<int32_t>(),
                         args.paged.kv_lens.values<int32_t>());
    reference::InterleavedAttention(args);
  }

  void Sample(TensorView logits, std::span<const SampleRow> rows, std::span<const LogitEdit> edits,
              std::span<const uint32_t> masks, std::span<SampledToken> tokens) override {
    CheckSample(logits, rows, masks, tokens.size(), DType::kF64);
    for (size_t i = 0; i < rows.size(); ++i) {
      tokens[i] = sampler_.Sample(NarrowRow(logits, i), rows[i], edits, masks);
    }
  }

  void TokenLogprobs(TensorView logits, std::span<const int32_t> targets,
                     std::span<float> logprobs) override {
    CheckTokenLogprobs(logits, targets.size(), logprobs.size(), DType::kF64);
    for (size_t i = 0; i < targets.size(); ++i) {
      const std::vector<float> row = NarrowRow(logits, i);
      logprobs[i] = static_cast<float>(row[targets[i]] - LogSumExp(row));
    }
  }

 private:
  void Project(TensorView x, const Projection& projection) {
    CheckMatMul(x, projection, DType::kF64);
    const auto& [w, bias, out] = projection;
    for (int64_t o = 0; o < w.shape[0]; ++o) {
      const auto weights = LoadRow(w, Offset(w, o), w.shape[1]);
      for (int64_t t = 0; t < x.shape[0]; ++t) {
        double sum = bias.empty() ? 0.0 : Load(bias, o);
        for (int64_t i = 0; i < w.shape[1]; ++i) sum += x.row<double>(t)[i] * weights[i];
        out.row<double>(t)[o] = sum;
      }
    }
  }

  static std::vector<float> NarrowRow(TensorView logits, int64_t row) {
    const double* wide = logits.row<double>(row);
    return {wide, wide + logits.shape[1]};
  }

  HostSampler sampler_;
};

}  // namespace

std::unique_ptr<Backend> CreateReferenceBackend() { return std::make_unique<ReferenceBackend>(); }

}  // namespace mea
