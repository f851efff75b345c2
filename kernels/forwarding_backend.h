#pragma once

#include <memory>
#include <utility>

#include "kernels/backend.h"

namespace mea {

// Hands every op to another back end. Whoever wants to look in at an op, to time it or to make it
// fail, derives from it and overrides that one.
class ForwardingBackend : public Backend {
 public:
  explicit ForwardingBackend(std::unique_ptr<Backend> to) : to_(std::move(to)) {}

  std::string_view name() const override { return to_->name(); }
  Device device() const override { return to_->device(); }
  DType compute_dtype() const override { return to_->compute_dtype(); }
  DType wide_dtype() const override { return to_->wide_dtype(); }
  std::optional<DType> weight_dtype() const override { return to_->weight_dtype(); }

  absl::Status Prepare(const BackendLimits& limits) override { return to_->Prepare(limits); }
  absl::StatusOr<BackendBytes> PlannedBytes(const BackendLimits& limits) const override {
    return to_->PlannedBytes(limits);
  }
  absl::StatusOr<Tensor> Allocate(std::span<const int64_t> shape, DType dtype) override {
    return to_->Allocate(shape, dtype);
  }
  absl::StatusOr<Tensor> AllocateHost(std::span<const int64_t> shape, DType dtype) override {
    return to_->AllocateHost(shape, dtype);
  }
  void Upload(TensorView host, TensorView device) override { to_->Upload(host, device); }
  void Download(TensorView device, TensorView host) override { to_->Download(device, host); }
  void Run(int64_t key, absl::FunctionRef<void()> ops) override { to_->Run(key, ops); }
  int PaddedRows(int num_rows) const override { return to_->PaddedRows(num_rows); }

  void Embed(TensorView table, TensorView ids, TensorView out) override {
    to_->Embed(table, ids, out);
  }
  void RmsNorm(TensorView x, TensorView gain, float eps, TensorView out) override {
    to_->RmsNorm(x, gain, eps, out);
  }
  void AddRmsNorm(TensorView delta, TensorView residual, TensorView gain, float eps,
                  TensorView out) override {
    to_->AddRmsNorm(delta, residual, gain, eps, out);
  }
  using Backend::MatMul;
  void MatMul(TensorView x, std::span<const Projection> projections) override {
    to_->MatMul(x, projections);
  }
  void SwiGlu(TensorView gate, TensorView up, TensorView out) override {
    to_->SwiGlu(gate, up, out);
  }
  void Moe(const MoeArgs& args) override { to_->Moe(args); }
  void SigmoidGate(TensorView gate, TensorView up, float scale, TensorView out) override {
    to_->SigmoidGate(gate, up, scale, out);
  }
  void MixHeads(TensorView x, TensorView mix, TensorView out) override {
    to_->MixHeads(x, mix, out);
  }
  void GatherRows(TensorView x, TensorView rows, TensorView out) override {
    to_->GatherRows(x, rows, out);
  }
  void ComputeRope(const RopeArgs& args) override { to_->ComputeRope(args); }
  void PrepareQueries(const PrepareQueriesArgs& args) override { to_->PrepareQueries(args); }
  void AppendKv(const AppendKvArgs& args) override { to_->AppendKv(args); }
  void PrepareAndAppend(const PrepareQueriesArgs& queries, const AppendKvArgs& kv) override {
    to_->PrepareAndAppend(queries, kv);
  }
  void PagedAttention(const PagedAttentionArgs& args) override { to_->PagedAttention(args); }
  void InterleavedAttention(const InterleavedAttentionArgs& args) override {
    to_->InterleavedAttention(args);
  }
  void Sample(TensorView logits, std::span<const SampleRow> rows, std::span<const LogitEdit> edits,
              std::span<const uint32_t> masks, std::span<SampledToken> tokens) override {
    to_->Sample(logits, rows, edits, masks, tokens);
  }
  void TokenLogprobs(TensorView logits, std::span<const int32_t> targets,
                     std::span<float> logprobs) override {
    to_->TokenLogprobs(logits, targets, logprobs);
  }
  absl::Status Synchronize() override { return to_->Synchronize(); }

 private:
  const std::unique_ptr<Backend> to_;
};

}  // namespace mea
