#include "kernels/cpu/moe_schedule.h"

#include <algorithm>
#include <cmath>

namespace mea::cpu {
namespace {

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Calls body(row) for all rows, a few of them per item.
template <typename Body>
void ForRows(ThreadPool& pool, int64_t num_rows, const Body& body) {
  constexpr int64_t kRowsPerItem = 8;
  pool.ParallelFor(CeilDiv(num_rows, kRowsPerItem), [&](int64_t item, int) {
    const int64_t end = std::min(num_rows, (item + 1) * kRowsPerItem);
    for (int64_t row = item * kRowsPerItem; row < end; ++row) body(row);
  });
}

// NaN is the smallest.
bool IsLess(float a, float b) { return a < b || (std::isnan(a) && !std::isnan(b)); }

// The experts of one row, ascending, and their weights.
void Choose(std::span<const float> logits, bool renormalise, std::span<int32_t> chosen,
            std::span<float> gates) {
  size_t count = 0;  // chosen[0..count) by falling logit, the first of equal ones first
  for (size_t e = 0; e < logits.size(); ++e) {
    size_t at = count;
    while (at > 0 && IsLess(logits[chosen[at - 1]], logits[e])) --at;
    if (at == chosen.size()) continue;
    if (count < chosen.size()) ++count;
    for (size_t i = count - 1; i > at; --i) chosen[i] = chosen[i - 1];
    chosen[at] = static_cast<int32_t>(e);
  }
  const float max = logits[chosen[0]];
  std::sort(chosen.begin(), chosen.end());
  float sum = 0;
  if (!renormalise) {
    for (const float logit : logits) sum += std::exp(logit - max);
  }
  for (size_t i = 0; i < chosen.size(); ++i) {
    gates[i] = std::exp(logits[chosen[i]] - max);
    if (renormalise) sum += gates[i];
  }
  for (float& gate : gates) gate /= sum;
}

}  // namespace

void MoeSchedule::Run(const MoeArgs& args, const KernelTable& kernels, ThreadPool& pool,
                      std::vector<Scratch>& scratch) {
  if (args.x.shape[0] == 0) return;
  Route(args, kernels, pool, scratch);
  Group(args);
  ForRows(pool, args.rows.shape[0], [&](int64_t row) {
    std::copy_n(args.x.row<float>(token_of_[row]), args.x.shape[1], args.rows.row<float>(row));
  });
  GateUp(args, kernels, pool, scratch);
  Down(args, kernels, pool, scratch);
  Combine(args, pool);
}

void MoeSchedule::Route(const MoeArgs& args, const KernelTable& kernels, ThreadPool& pool,
                        std::vector<Scratch>& scratch) {
  const int64_t num_tokens = args.x.shape[0];
  const int64_t num_experts = args.router.shape[0];
  float* const logits = logits_.Ensure(num_tokens * num_experts);
  const Projection router = {
      .w = args.router, .out = TensorView::Dense(logits, DType::kF32, {num_tokens, num_experts})};
  router_.Run({.x = args.x, .projections = {&router, 1}}, kernels.matmul, pool, scratch);
  const size_t top_k = args.top_k;
  chosen_.resize(num_tokens * top_k);
  gates_.resize(num_tokens * top_k);
  ForRows(pool, num_tokens, [&](int64_t t) {
    Choose({logits + t * num_experts, static_cast<size_t>(num_experts)}, args.renormalise,
           std::span(chosen_).subspan(t * top_k, top_k),
           std::span(gates_).subspan(t * top_k, top_k));
  });
}

void MoeSchedule::Group(const MoeArgs& args) {
  begin_.assign(args.experts.size() + 1, 0);
  for (const int32_t expert : chosen_) ++begin_[expert + 1];
  for (size_t e = 1; e < begin_.size(); ++e) begin_[e] += begin_[e - 1];
  place_.resize(chosen_.size());
  token_of_.resize(chosen_.size());
  for (size_t i = 0; i < chosen_.size(); ++i) {
    place_[i] = begin_[chosen_[i]]++;
    token_of_[place_[i]] = static_cast<int32_t>(i) / args.top_k;
  }
  // Each begin has moved to its end, which is the begin of the next.
  std::copy_backward(begin_.begin(), begin_.end() - 1, begin_.end());
  begin_[0] = 0;
}

void MoeSchedule::CutPanels(int max_streamed_rows) {
  panels_.clear();
  for (int e = 0; e + 1 < std::ssize(begin_); ++e) {
    const int num_rows = begin_[e + 1] - begin_[e];
    if (num_rows == 0) continue;
    const bool has_many_rows = num_rows > max_streamed_rows;
    const int count = has_many_rows ? static_cast<int>(CeilDiv(num_rows, kPanelRows)) : 1;
    for (int i = 0; i < count; ++i) {
      const int first = i * num_rows / count;
      const int end = (i + 1) * num_rows / count;
      panels_.push_back({.expert = e,
                         .row = begin_[e] + first,
                         .num_rows = end - first,
                         .has_many_rows = has_many_rows});
    }
  }
}

void MoeSchedule::CutBlocks(const TensorView& w, const ProductKernels& product, int num_threads) {
  const int64_t num_outs = w.shape[0];
  CutPanels(product.max_streamed_rows);
  // The threads share the outputs of all panels.
  const int64_t streamed =
      StreamedOuts(num_outs * std::ssize(panels_), RowBytesOf(w), product, num_threads);
  blocks_.clear();
  for (int panel = 0; panel < std::ssize(panels_); ++panel) {
    const int64_t step = panels_[panel].has_many_rows ? product.many_outs : streamed;
    for (int64_t out = 0; out < num_outs; out += step) {
      blocks_.push_back({.panel = panel, .out = out, .num_outs = std::min(step, num_outs - out)});
    }
  }
  runs_.Deal(std::ssize(blocks_), num_threads);
}

void MoeSchedule::Pack(TensorView x, const ProductKernels& product, ThreadPool& pool) {
  const int64_t k = x.shape[1];
  const int64_t row_floats = product.row_floats(k);
  float* const packed = packed_.Ensure(x.shape[0] * row_floats);
  pool.ParallelFor(std::ssize(panels_), [&](int64_t i, int) {
    const Panel& panel = panels_[i];
    if (!product.Packs(panel.num_rows)) return;
    product.pack_rows({.x = x.row<float>(panel.row),
                       .x_stride = x.stride[0],
                       .num_rows = panel.num_rows,
                       .k = k,
                       .packed = packed + panel.row * row_floats});
  });
}

MatMulBlock MoeSchedule::BlockOf(const Block& block, TensorView x, TensorView w,
                                 const ProductKernels& product) const {
  const Panel& panel = panels_[block.panel];
  const int64_t k = x.shape[1];
  return {.x = product.Packs(panel.num_rows) ? packed_.data() + panel.row * product.row_floats(k)
                                             : x.row<float>(panel.row),
          .x_stride = x.stride[0],
          .num_rows = panel.num_rows,
          .w = w.Rows(block.out, block.num_outs).data,
          .w_dtype = w.dtype,
          .w_stride = w.stride[0],
          .w_group = GroupOf(w),
          .num_outs = static_cast<int>(block.num_outs),
          .k = k};
}

void MoeSchedule::GateUp(const MoeArgs& args, const KernelTable& kernels, ThreadPool& pool,
                         std::vector<Scratch>& scratch) {
  const ProductKernels& product = kernels.matmul.For(args.experts[0].gate.dtype);
  CutBlocks(args.experts[0].gate, product, pool.num_threads());
  Pack(args.rows, product, pool);
  pool.ParallelFor(std::ssize(blocks_), [&](int64_t, int thread) {
    const Block& block = blocks_[runs_.Take(thread)];
    const Panel& panel = panels_[block.panel];
    const Expert& expert = args.experts[panel.expert];
    const int64_t for_product = panel.has_many_rows ? MatMulScratchFloats(panel.num_rows) : 0;
    float* const memory = scratch[thread].Ensure(for_product + panel.num_rows * block.num_outs);
    float* const product_scratch = panel.has_many_rows ? memory : nullptr;

    MatMulBlock gate = BlockOf(block, args.rows, expert.gate, product);
    gate.out = args.inner.row<float>(panel.row) + block.out;
    gate.out_stride = args.inner.stride[0];
    product.multiply(gate, product_scratch);
    MatMulBlock up = BlockOf(block, args.rows, expert.up, product);
    up.out = memory + for_product;
    up.out_stride = block.num_outs;
    product.multiply(up, product_scratch);
    const TensorView inner =
        args.inner.Rows(panel.row, panel.num_rows).Columns(block.out, block.num_outs);
    const GatedActivationArgs activation = {
        .gate = inner,
        .up = TensorView::Dense(up.out, DType::kF32, {panel.num_rows, block.num_outs}),
        .out = inner};
    for (int row = 0; row < panel.num_rows; ++row) kernels.rows.gated_activation(activation, row);
  });
}

void MoeSchedule::Down(const MoeArgs& args, const KernelTable& kernels, ThreadPool& pool,
                       std::vector<Scratch>& scratch) {
  const ProductKernels& product = kernels.matmul.For(args.experts[0].down.dtype);
  CutBlocks(args.experts[0].down, product, pool.num_threads());
  Pack(args.inner, product, pool);
  pool.ParallelFor(std::ssize(blocks_), [&](int64_t, int thread) {
    const Block& block = blocks_[runs_.Take(thread)];
    const Panel& panel = panels_[block.panel];
    MatMulBlock down = BlockOf(block, args.inner, args.experts[panel.expert].down, product);
    down.out = args.rows.row<float>(panel.row) + block.out;
    down.out_stride = args.rows.stride[0];
    float* const product_scratch =
        panel.has_many_rows ? scratch[thread].Ensure(MatMulScratchFloats(panel.num_rows)) : nullptr;
    product.multiply(down, product_scratch);
  });
}

void MoeSchedule::Combine(const MoeArgs& args, ThreadPool& pool) const {
  const int64_t hidden = args.out.shape[1];
  ForRows(pool, args.out.shape[0], [&](int64_t t) {
    float* const out = args.out.row<float>(t);
    for (int j = 0; j < args.top_k; ++j) {
      const int64_t slot = t * args.top_k + j;
      const float gate = gates_[slot];
      const float* const row = args.rows.row<float>(place_[slot]);
      for (int64_t i = 0; i < hidden; ++i) out[i] = gate * row[i] + (j == 0 ? 0.0f : out[i]);
    }
  });
}

}  // namespace mea::cpu
