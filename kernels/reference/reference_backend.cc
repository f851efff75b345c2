#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "kernels/backend.h"
#include "kernels/host_sample.h"
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

 private:
  void DoEmbed(const EmbedArgs& args) override {
    const auto& [table, ids, scale, out] = args;
    for (int64_t t = 0; t < ids.shape[0]; ++t) {
      const auto row = LoadRow(table, Offset(table, ids.as<int32_t>()[t]), table.shape[1]);
      for (int64_t i = 0; i < table.shape[1]; ++i) out.row<double>(t)[i] = double{scale} * row[i];
    }
  }

  void DoRmsNorm(const RmsNormArgs& args) override {
    const auto& [x, gain, eps, out] = args;
    for (int64_t t = 0; t < x.shape[0]; ++t) {
      const std::vector<double> normed = NormedRow(x, t, gain, eps);
      std::copy(normed.begin(), normed.end(), out.row<double>(t));
    }
  }

  void DoAddRmsNorm(const AddRmsNormArgs& args) override {
    const auto& [delta, delta_gain, delta_scale, residual, gain, eps, out] = args;
    for (int64_t t = 0; t < delta.shape[0]; ++t) {
      const std::vector<double> added = NormedRow(delta, t, delta_gain, eps);
      for (int64_t i = 0; i < delta.shape[1]; ++i) {
        residual.row<double>(t)[i] += delta_scale * added[i];
      }
    }
    DoRmsNorm({.x = residual, .gain = gain, .eps = eps, .out = out});
  }

  void DoNormRows(const NormRowsArgs& args) override {
    DoRmsNorm({.x = args.x, .gain = args.gain, .eps = args.eps, .out = args.out});
  }

  void DoMatMul(const MatMulArgs& args) override {
    for (const auto& [w, bias, out] : args.projections) {
      for (int64_t o = 0; o < w.shape[0]; ++o) {
        const auto weights = LoadRow(w, Offset(w, o), w.shape[1]);
        for (int64_t t = 0; t < args.x.shape[0]; ++t) {
          double sum = bias.empty() ? 0.0 : Load(bias, o);
          for (int64_t i = 0; i < w.shape[1]; ++i) sum += args.x.row<double>(t)[i] * weights[i];
          out.row<double>(t)[o] = sum;
        }
      }
    }
  }

  void DoGatedActivation(const GatedActivationArgs& args) override {
    switch (args.activation) {
      case Activation::kSilu:
        return Gate(args, [](double g) { return g / (1.0 + std::exp(-g)); });
      case Activation::kGeluTanh:
        return Gate(args, [](double g) {
          const double inner = std::sqrt(2 / std::numbers::pi) * (g + 0.044715 * g * g * g);
          return 0.5 * g * (1.0 + std::tanh(inner));
        });
    }
  }
  void DoSigmoidGate(const SigmoidGateArgs& args) override {
    Gate(args, [&](double g) { return args.scale / (1.0 + std::exp(-g)); });
  }

  void DoMixHeads(const MixHeadsArgs& args) override {
    const auto& [x, mix, out] = args;
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

  void DoGatherRows(const GatherRowsArgs& args) override {
    const auto& [x, rows, out] = args;
    for (int64_t t = 0; t < rows.shape[0]; ++t) {
      const double* row = x.row<double>(rows.as<int32_t>()[t]);
      for (int64_t i = 0; i < x.shape[1]; ++i) out.row<double>(t)[i] = row[i];
    }
  }

  void DoMoe(const MoeArgs& args) override { reference::Moe(args); }
  void DoComputeRope(const ComputeRopeArgs& args) override { reference::ComputeRope(args); }
  void DoPrepareQueries(const PrepareQueriesArgs& args) override {
    reference::PrepareQueries(args);
  }
  void DoAppendKv(const AppendKvArgs& args) override { reference::AppendKv(args); }
  void DoPagedAttention(const PagedAttentionArgs& args) override {
    reference::PagedAttention(args);
  }
  void DoInterleavedAttention(const InterleavedAttentionArgs& args) override {
    reference::InterleavedAttention(args);
  }

  void DoSample(const SampleArgs& args) override {
    for (size_t i = 0; i < args.rows.size(); ++i) {
      args.tokens[i] =
          sampler_.Sample(NarrowRow(args.logits, i), args.rows[i], args.edits, args.masks);
    }
  }
  void DoTokenLogprobs(const TokenLogprobsArgs& args) override {
    for (size_t i = 0; i < args.targets.size(); ++i) {
      const std::vector<float> row = NarrowRow(args.logits, i);
      args.logprobs[i] = static_cast<float>(row[args.targets[i]] - LogSumExp(row));
    }
  }

  // Unchanged if there is no gain.
  static std::vector<double> NormedRow(TensorView x, int64_t t, TensorView gain, float eps) {
    std::vector<double> row = LoadRow(x, Offset(x, t), x.shape[1]);
    if (gain.empty()) return row;
    double sum = 0;
    for (const double value : row) sum += value * value;
    const double inverse_rms = 1.0 / std::sqrt(sum / static_cast<double>(row.size()) + eps);
    for (size_t i = 0; i < row.size(); ++i) row[i] = Load(gain, i) * (row[i] * inverse_rms);
    return row;
  }

  // out = f(gate) * up
  template <typename Args, typename F>
  static void Gate(const Args& args, F f) {
    for (int64_t t = 0; t < args.gate.shape[0]; ++t) {
      const double* gate = args.gate.template row<double>(t);
      const double* up = args.up.template row<double>(t);
      double* out = args.out.template row<double>(t);
      for (int64_t i = 0; i < args.gate.shape[1]; ++i) out[i] = f(gate[i]) * up[i];
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
