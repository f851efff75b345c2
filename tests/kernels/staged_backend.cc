#include "tests/kernels/staged_backend.h"

#include <array>
#include <cstdlib>
#include <deque>
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
  if (IsIntegerCache(view.dtype) && view.rank == 4) return view.shape[0] * view.stride[0];  // slabs
  int64_t last = 0;
  for (int i = 0; i < view.rank; ++i) last += (view.shape[i] - 1) * view.stride[i];
  return view.num_elements() == 0 ? 0 : last + 1;
}

class StagedBackend final : public Backend {
 public:
  explicit StagedBackend(Backend* device) : device_(*device) {}

  std::string_view name() const override { return device_.name(); }
  DType compute_dtype() const override { return device_.compute_dtype(); }
  DType wide_dtype() const override { return device_.wide_dtype(); }
  absl::StatusOr<Tensor> Allocate(std::span<const int64_t> shape, DType dtype) override {
    return Tensor::AllocateHost(shape, dtype);
  }

 private:
  struct Operand {
    TensorView host;  // every element that the view spans, flat
    Tensor device;
  };

  void DoEmbed(const EmbedArgs& args) override {
    device_.Embed(
        {.table = Up(args.table), .ids = Up(args.ids), .scale = args.scale, .out = Up(args.out)});
    Down();
  }

  void DoRmsNorm(const RmsNormArgs& args) override {
    device_.RmsNorm({.x = Up(args.x), .gain = Up(args.gain), .eps = args.eps, .out = Up(args.out)});
    Down();
  }

  void DoAddRmsNorm(const AddRmsNormArgs& args) override {
    device_.AddRmsNorm({.delta = Up(args.delta),
                        .delta_gain = Up(args.delta_gain),
                        .delta_scale = args.delta_scale,
                        .residual = Up(args.residual),
                        .gain = Up(args.gain),
                        .eps = args.eps,
                        .out = Up(args.out)});
    Down();
  }

  void DoNormRows(const NormRowsArgs& args) override {
    device_.NormRows(
        {.x = Up(args.x), .gain = Up(args.gain), .eps = args.eps, .out = Up(args.out)});
    Down();
  }

  void DoMatMul(const MatMulArgs& args) override {
    std::vector<Projection> staged;
    for (const auto& [w, bias, out] : args.projections) {
      staged.push_back({.w = Up(w), .bias = Up(bias), .out = Up(out)});
    }
    device_.MatMul({.x = Up(args.x), .projections = staged});
    Down();
  }

  void DoGatedActivation(const GatedActivationArgs& args) override {
    device_.GatedActivation({.gate = Up(args.gate),
                             .up = Up(args.up),
                             .activation = args.activation,
                             .out = Up(args.out)});
    Down();
  }

  void DoMoe(const MoeArgs& args) override {
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

  void DoSigmoidGate(const SigmoidGateArgs& args) override {
    device_.SigmoidGate(
        {.gate = Up(args.gate), .up = Up(args.up), .scale = args.scale, .out = Up(args.out)});
    Down();
  }

  void DoMixHeads(const MixHeadsArgs& args) override {
    device_.MixHeads({.x = Up(args.x), .mix = Up(args.mix), .out = Up(args.out)});
    Down();
  }

  void DoGatherRows(const GatherRowsArgs& args) override {
    device_.GatherRows({.x = Up(args.x), .rows = Up(args.rows), .out = Up(args.out)});
    Down();
  }

  void DoComputeRope(const ComputeRopeArgs& args) override {
    ComputeRopeArgs staged = args;
    staged.positions = Up(args.positions);
    staged.inv_freq = Up(args.inv_freq);
    staged.out = Up(args.out);
    device_.ComputeRope(staged);
    Down();
  }

  void DoPrepareQueries(const PrepareQueriesArgs& args) override {
    PrepareQueriesArgs staged = args;
    staged.q = Up(args.q);
    staged.gain = Up(args.gain);
    staged.cos_sin = Up(args.cos_sin);
    device_.PrepareQueries(staged);
    Down();
  }

  void DoAppendKv(const AppendKvArgs& args) override {
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

  void DoPagedAttention(const PagedAttentionArgs& args) override {
    device_.PagedAttention(Up(args));
    Down();
  }

  void DoInterleavedAttention(const InterleavedAttentionArgs& args) override {
    InterleavedAttentionArgs staged = args;
    staged.paged = Up(args.paged);
    staged.rotations = Up(args.rotations);
    device_.InterleavedAttention(staged);
    Down();
  }

  void DoSample(const SampleArgs& args) override {
    SampleArgs staged = args;
    staged.logits = Up(args.logits);
    device_.Sample(staged);
    Down();
  }

  void DoTokenLogprobs(const TokenLogprobsArgs& args) override {
    TokenLogprobsArgs staged = args;
    staged.logits = Up(args.logits);
    device_.TokenLogprobs(staged);
    Down();
  }

  // The operand on the device.
  TensorView Up(TensorView host) {
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

  PagedKvView Up(const PagedKvView& kv) {
    PagedKvView device = kv;
    device.keys = Up(kv.keys);
    device.values = Up(kv.values);
    device.key_norms = Up(kv.key_norms);
    return device;
  }

  // Ends an op: everything is copied back, which leaves inputs as they were.
  void Down() {
    for (const Operand& operand : operands_) device_.Download(operand.device.view(), operand.host);
    DieUnless(device_.Synchronize());
    operands_.clear();
  }

  PagedAttentionArgs Up(const PagedAttentionArgs& args) {
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

  Backend& device_;
  std::deque<Operand> operands_;
};

}  // namespace

std::unique_ptr<Backend> MakeStaged(Backend* device) {
  return std::make_unique<StagedBackend>(device);
}

}  // namespace mea
