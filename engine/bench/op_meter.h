#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "kernels/backend.h"
#include "kernels/cost.h"

namespace mea {

// A back end of the host that times every op of another one and adds up what the op costs at least
// (kernels/cost), by kind: "MatMul 2304x768" is apart from "MatMul 768x768" (out x in).
class OpMeter : public Backend {
 public:
  struct Total {
    int64_t calls = 0;
    double seconds = 0;
    OpCost cost;
  };

  explicit OpMeter(std::unique_ptr<Backend> inner) : inner_(std::move(inner)) {}

  const std::map<std::string, Total>& totals() const { return totals_; }
  void Reset() { totals_.clear(); }

  std::string_view name() const override { return inner_->name(); }
  DType compute_dtype() const override { return inner_->compute_dtype(); }
  DType wide_dtype() const override { return inner_->wide_dtype(); }
  std::optional<DType> weight_dtype() const override { return inner_->weight_dtype(); }
  absl::Status Prepare(const BackendLimits& limits) override { return inner_->Prepare(limits); }
  absl::StatusOr<BackendBytes> PlannedBytes(const BackendLimits& limits) const override {
    return inner_->PlannedBytes(limits);
  }
  absl::StatusOr<Tensor> Allocate(std::span<const int64_t> shape, DType dtype) override {
    return inner_->Allocate(shape, dtype);
  }

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
  void PagedAttention(const PagedAttentionArgs& args) override;
  void InterleavedAttention(const InterleavedAttentionArgs& args) override;
  void Sample(TensorView logits, std::span<const SampleRow> rows, std::span<const LogitEdit> edits,
              std::span<SampledToken> tokens) override;
  void TokenLogprobs(TensorView logits, std::span<const int32_t> targets,
                     std::span<float> logprobs) override;

 private:
  template <typename Op>
  void Time(const std::string& kind, const OpCost& cost, Op op);

  const std::unique_ptr<Backend> inner_;
  std::map<std::string, Total> totals_;
};

}  // namespace mea
