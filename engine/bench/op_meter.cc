#include "engine/bench/op_meter.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/bench/timing.h"

namespace mea {
namespace {

AttentionShape ShapeOf(const PagedAttentionArgs& args) {
  return {.kv = args.kv.spec,
          .q_heads = static_cast<int>(args.q.shape[1]),
          .kv_heads = args.kv_heads,
          .composed = !args.mix.key.empty() || !args.mix.value.empty(),
          .window = args.window};
}

std::vector<SequenceLengths> LengthsOf(const PagedAttentionArgs& args) {
  const int32_t* const offsets = args.q_offsets.as<int32_t>();
  const int32_t* const kv_lens = args.kv_lens.as<int32_t>();
  std::vector<SequenceLengths> lengths;
  for (int64_t i = 0; i < args.kv_lens.shape[0]; ++i) {
    lengths.push_back({.q_len = offsets[i + 1] - offsets[i], .kv_len = kv_lens[i]});
  }
  return lengths;
}

}  // namespace

template <typename Op>
void OpMeter::Time(const std::string& kind, const OpCost& cost, Op op) {
  const double seconds = SecondsOf(op);
  Total& total = totals_[kind];
  ++total.calls;
  total.seconds += seconds;
  total.cost += cost;
}

void OpMeter::Embed(TensorView table, TensorView ids, TensorView out) {
  Time("Embed", EmbedCost(ids.shape[0], table.shape[1], table.dtype, wide_dtype()),
       [&] { ForwardingBackend::Embed(table, ids, out); });
}

void OpMeter::RmsNorm(TensorView x, TensorView gain, float eps, TensorView out) {
  Time("RmsNorm", RmsNormCost(x.shape[0], x.shape[1], compute_dtype()),
       [&] { ForwardingBackend::RmsNorm(x, gain, eps, out); });
}

void OpMeter::AddRmsNorm(TensorView delta, TensorView residual, TensorView gain, float eps,
                         TensorView out) {
  Time("AddRmsNorm", AddRmsNormCost(delta.shape[0], delta.shape[1], compute_dtype()),
       [&] { ForwardingBackend::AddRmsNorm(delta, residual, gain, eps, out); });
}

void OpMeter::MatMul(TensorView x, std::span<const Projection> projections) {
  const int64_t in = x.shape[1];
  int64_t out = 0;
  for (const Projection& projection : projections) out += projection.w.shape[0];
  Time(absl::StrCat("MatMul ", out, "x", in),
       MatMulCost(x.shape[0], in, out, projections[0].w.dtype, compute_dtype()),
       [&] { ForwardingBackend::MatMul(x, projections); });
}

void OpMeter::SwiGlu(TensorView gate, TensorView up, TensorView out) {
  Time("SwiGlu", SwiGluCost(gate.shape[0], gate.shape[1], compute_dtype()),
       [&] { ForwardingBackend::SwiGlu(gate, up, out); });
}

void OpMeter::Moe(const MoeArgs& args) {
  const MoeShape shape = {.num_experts = static_cast<int>(args.experts.size()),
                          .top_k = args.top_k,
                          .ffn_size = static_cast<int>(args.experts[0].gate.shape[0])};
  const int64_t n = args.x.shape[0];
  Time("Moe",
       MoeCost(n, args.x.shape[1], shape, ExpectedExperts(shape, n), args.router.dtype,
               compute_dtype()),
       [&] { ForwardingBackend::Moe(args); });
}

void OpMeter::SigmoidGate(TensorView gate, TensorView up, float scale, TensorView out) {
  Time("SigmoidGate", SigmoidGateCost(gate.shape[0], gate.shape[1], compute_dtype()),
       [&] { ForwardingBackend::SigmoidGate(gate, up, scale, out); });
}

void OpMeter::MixHeads(TensorView x, TensorView mix, TensorView out) {
  Time("MixHeads",
       MixHeadsCost(x.shape[0], mix.shape[0], mix.shape[1], x.shape[2], compute_dtype()),
       [&] { ForwardingBackend::MixHeads(x, mix, out); });
}

// Neither has a cost of its own in kernels/cost: both are small compared with any other op.
void OpMeter::GatherRows(TensorView x, TensorView rows, TensorView out) {
  Time("GatherRows", {}, [&] { ForwardingBackend::GatherRows(x, rows, out); });
}
void OpMeter::ComputeRope(const RopeArgs& args) {
  Time("ComputeRope", {}, [&] { ForwardingBackend::ComputeRope(args); });
}

void OpMeter::PrepareQueries(const PrepareQueriesArgs& args) {
  Time("PrepareQueries",
       PrepareQueriesCost(args.q.shape[0], args.q.shape[1], args.q.shape[2], compute_dtype()),
       [&] { ForwardingBackend::PrepareQueries(args); });
}

void OpMeter::AppendKv(const AppendKvArgs& args) {
  Time("AppendKv", AppendKvCost(args.k.shape[0], args.kv.spec, compute_dtype()),
       [&] { ForwardingBackend::AppendKv(args); });
}

void OpMeter::PagedAttention(const PagedAttentionArgs& args) {
  Time("PagedAttention", PagedAttentionCost(ShapeOf(args), LengthsOf(args), compute_dtype()),
       [&] { ForwardingBackend::PagedAttention(args); });
}

void OpMeter::InterleavedAttention(const InterleavedAttentionArgs& args) {
  Time("InterleavedAttention",
       InterleavedAttentionCost(ShapeOf(args.paged), args.pseudo_heads, LengthsOf(args.paged),
                                compute_dtype()),
       [&] { ForwardingBackend::InterleavedAttention(args); });
}

// Reads the logits, as StepCost leaves out.
void OpMeter::Sample(TensorView logits, std::span<const SampleRow> rows,
                     std::span<const LogitEdit> edits, std::span<const uint32_t> masks,
                     std::span<SampledToken> tokens) {
  Time("Sample", {}, [&] { ForwardingBackend::Sample(logits, rows, edits, masks, tokens); });
}

void OpMeter::TokenLogprobs(TensorView logits, std::span<const int32_t> targets,
                            std::span<float> logprobs) {
  Time("TokenLogprobs", {}, [&] { ForwardingBackend::TokenLogprobs(logits, targets, logprobs); });
}

}  // namespace mea
