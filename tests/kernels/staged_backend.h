#pragma once

#include <deque>

#include "kernels/backend.h"

namespace mea {

// A device's back end for operands in host memory: every op uploads them, runs, and downloads what
// it wrote, so that one test serves all back ends. Strides stay as they are; operands at one
// address share their copy. A failure of the device ends the program.
class StagedBackend final : public Backend {
 public:
  explicit StagedBackend(Backend* device) : device_(*device) {}

  std::string_view name() const override { return device_.name(); }
  DType compute_dtype() const override { return device_.compute_dtype(); }
  DType wide_dtype() const override { return device_.wide_dtype(); }
  absl::StatusOr<Tensor> Allocate(std::span<const int64_t> shape, DType dtype) override {
    return Tensor::AllocateHost(shape, dtype);
  }

  void Embed(TensorView table, TensorView ids, TensorView out) override;
  void RmsNorm(TensorView x, TensorView gain, float eps, TensorView out) override;
  void AddRmsNorm(TensorView delta, TensorView residual, TensorView gain, float eps,
                  TensorView out) override;
  using Backend::MatMul;
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
              std::span<const uint32_t> masks, std::span<SampledToken> tokens) override;
  void TokenLogprobs(TensorView logits, std::span<const int32_t> targets,
                     std::span<float> logprobs) override;

 private:
  struct Operand {
    TensorView host;  // every element that the view spans, flat
    Tensor device;
  };

  // The operand on the device.
  TensorView Up(TensorView host);
  PagedKvView Up(const PagedKvView& kv);
  PagedAttentionArgs Up(const PagedAttentionArgs& args);
  // Ends an op: everything is copied back, which leaves inputs as they were.
  void Down();

  Backend& device_;
  std::deque<Operand> operands_;
};

}  // namespace mea
