#include "tests/kernels/staged_backend.h"

#include <array>
#include <cstdlib>
#include <iostream>
#include <vector>

namespace mea {
namespace {

void DieUnless(const absl::Status& status) {
  if (status.ok()) return;
  std::cerr << status << '\n';
  std::abort();
}

int64_t Span(const TensorView& view) {
  int64_t last = 0;
  for (int i = 0; i < view.rank; ++i) last += (view.shape[i] - 1) * view.stride[i];
  return view.num_elements() == 0 ? 0 : last + 1;
}

}  // namespace

TensorView StagedBackend::Up(TensorView host) {
  if (host.empty()) return host;
  const std::array<int64_t, 1> shape = {Span(host)};
  TensorView device = host;
  device.device = device_.device();
  for (const Operand& operand : operands_) {
    if (operand.host.data != host.data) continue;
    MEA_CHECK(operand.host.shape[0] == shape[0]);
    device.data = operand.device.view().data;
    return device;
  }
  absl::StatusOr<Tensor> copy = device_.Allocate(shape, host.dtype);
  DieUnless(copy.status());
  const TensorView flat = TensorView::Dense(host.data, host.dtype, shape);
  device_.Upload(flat, copy->view());
  device.data = copy->view().data;
  operands_.push_back({flat, *std::move(copy)});
  return device;
}

PagedKvView StagedBackend::Up(const PagedKvView& kv) {
  PagedKvView device = kv;
  device.keys = Up(kv.keys);
  device.values = Up(kv.values);
  device.key_norms = Up(kv.key_norms);
  return device;
}

void StagedBackend::Down() {
  for (const Operand& operand : operands_) device_.Download(operand.device.view(), operand.host);
  DieUnless(device_.Synchronize());
  operands_.clear();
}

void StagedBackend::Embed(TensorView table, TensorView ids, TensorView out) {
  device_.Embed(Up(table), Up(ids), Up(out));
  Down();
}

void StagedBackend::RmsNorm(TensorView x, TensorView gain, float eps, TensorView out) {
  device_.RmsNorm(Up(x), Up(gain), eps, Up(out));
  Down();
}

void StagedBackend::AddRmsNorm(TensorView delta, TensorView residual, TensorView gain, float eps,
                               TensorView out) {
  device_.AddRmsNorm(Up(delta), Up(residual), Up(gain), eps, Up(out));
  Down();
}

void StagedBackend::MatMul(TensorView x, std::span<const Projection> projections) {
  std::vector<Projection> staged;
  for (const Projection& p : projections) {
    staged.push_back({.w = Up(p.w), .bias = Up(p.bias), .out = Up(p.out)});
  }
  device_.MatMul(Up(x), staged);
  Down();
}

void StagedBackend::SwiGlu(TensorView gate, TensorView up, TensorView out) {
  device_.SwiGlu(Up(gate), Up(up), Up(out));
  Down();
}

void StagedBackend::Moe(const MoeArgs& args) {
  // A device wants its experts equally far apart: one run of memory, in order.
  std::vector<Expert> experts(args.experts.begin(), args.experts.end());
  const auto elements = [](const Expert& e) {
    return e.gate.num_elements() + e.up.num_elements() + e.down.num_elements();
  };
  const std::array<int64_t, 1> shape = {std::ssize(experts) * elements(experts[0])};
  const absl::StatusOr<Tensor> run = device_.Allocate(shape, experts[0].gate.dtype);
  DieUnless(run.status());
  int64_t begin = 0;
  for (Expert& expert : experts) {
    for (TensorView* w : {&expert.gate, &expert.up, &expert.down}) {
      TensorView placed = run->view().Rows(begin, w->num_elements());
      placed = placed.Reshape({w->shape[0], w->shape[1]});
      device_.Upload(*w, placed);
      begin += w->num_elements();
      *w = placed;
    }
  }
  MoeArgs staged = args;
  staged.x = Up(args.x);
  staged.router = Up(args.router);
  staged.experts = experts;
  staged.inner = Up(args.inner);
  staged.rows = Up(args.rows);
  staged.out = Up(args.out);
  device_.Moe(staged);
  Down();
}

void StagedBackend::SigmoidGate(TensorView gate, TensorView up, float scale, TensorView out) {
  device_.SigmoidGate(Up(gate), Up(up), scale, Up(out));
  Down();
}

void StagedBackend::MixHeads(TensorView x, TensorView mix, TensorView out) {
  device_.MixHeads(Up(x), Up(mix), Up(out));
  Down();
}

void StagedBackend::GatherRows(TensorView x, TensorView rows, TensorView out) {
  device_.GatherRows(Up(x), Up(rows), Up(out));
  Down();
}

void StagedBackend::ComputeRope(const RopeArgs& args) {
  RopeArgs staged = args;
  staged.positions = Up(args.positions);
  staged.inv_freq = Up(args.inv_freq);
  staged.out = Up(args.out);
  device_.ComputeRope(staged);
  Down();
}

void StagedBackend::PrepareQueries(const PrepareQueriesArgs& args) {
  PrepareQueriesArgs staged = args;
  staged.q = Up(args.q);
  staged.gain = Up(args.gain);
  staged.cos_sin = Up(args.cos_sin);
  device_.PrepareQueries(staged);
  Down();
}

void StagedBackend::AppendKv(const AppendKvArgs& args) {
  AppendKvArgs staged = args;
  staged.k = Up(args.k);
  staged.v = Up(args.v);
  staged.slots = Up(args.slots);
  staged.cos_sin = Up(args.cos_sin);
  staged.gain = Up(args.gain);
  staged.key_mix = Up(args.key_mix);
  staged.kv = Up(args.kv);
  device_.AppendKv(staged);
  Down();
}

PagedAttentionArgs StagedBackend::Up(const PagedAttentionArgs& args) {
  PagedAttentionArgs staged = args;
  staged.q = Up(args.q);
  staged.q_offsets = Up(args.q_offsets);
  staged.kv_lens = Up(args.kv_lens);
  staged.page_table = Up(args.page_table);
  staged.host_q_offsets = args.q_offsets.values<int32_t>();
  staged.host_kv_lens = args.kv_lens.values<int32_t>();
  staged.kv = Up(args.kv);
  staged.mix = {.key = Up(args.mix.key), .value = Up(args.mix.value)};
  staged.head_norm_gain = Up(args.head_norm_gain);
  staged.out = Up(args.out);
  return staged;
}

void StagedBackend::PagedAttention(const PagedAttentionArgs& args) {
  device_.PagedAttention(Up(args));
  Down();
}

void StagedBackend::InterleavedAttention(const InterleavedAttentionArgs& args) {
  InterleavedAttentionArgs staged = args;
  staged.paged = Up(args.paged);
  staged.turns = Up(args.turns);
  device_.InterleavedAttention(staged);
  Down();
}

void StagedBackend::Sample(TensorView logits, std::span<const SampleRow> rows,
                           std::span<const LogitEdit> edits, std::span<const uint32_t> masks,
                           std::span<SampledToken> tokens) {
  device_.Sample(Up(logits), rows, edits, masks, tokens);
  Down();
}

void StagedBackend::TokenLogprobs(TensorView logits, std::span<const int32_t> targets,
                                  std::span<float> logprobs) {
  device_.TokenLogprobs(Up(logits), targets, logprobs);
  Down();
}

}  // namespace mea
