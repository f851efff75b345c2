#pragma once

#include <map>
#include <string>

#include "kernels/cost.h"
#include "kernels/forwarding_backend.h"

namespace mea {

// A host back end that times every op of another one and adds up the op's least cost
// (kernels/cost), by kind: "MatMul 2304x768" and "MatMul 768x768" (out x in) are different kinds.
class OpMeter : public ForwardingBackend {
 public:
  struct Total {
    int64_t calls = 0;
    double seconds = 0;
    OpCost cost;
  };

  using ForwardingBackend::ForwardingBackend;

  const std::map<std::string, Total>& totals() const { return totals_; }
  void Reset() { totals_.clear(); }

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
  // As two ops, so that each has its time.
  void PrepareAndAppend(const PrepareQueriesArgs& queries, const AppendKvArgs& kv) override {
    Backend::PrepareAndAppend(queries, kv);
  }
  void PagedAttention(const PagedAttentionArgs& args) override;
  void InterleavedAttention(const InterleavedAttentionArgs& args) override;
  void Sample(TensorView logits, std::span<const SampleRow> rows, std::span<const LogitEdit> edits,
              std::span<const uint32_t> masks, std::span<SampledToken> tokens) override;
  void TokenLogprobs(TensorView logits, std::span<const int32_t> targets,
                     std::span<float> logprobs) override;

 private:
  template <typename Op>
  void Time(const std::string& kind, const OpCost& cost, Op op);

  std::map<std::string, Total> totals_;
};

}  // namespace mea
