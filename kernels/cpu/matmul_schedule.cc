#include "kernels/cpu/matmul_schedule.h"

#include <algorithm>
#include <limits>

#include "kernels/int4_rows.h"

namespace mea::cpu {
namespace {

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// All rows against outputs [first, first + outs), x as it lies.
MatMulBlock BlockOf(TensorView x, const Projection& projection, int64_t first, int64_t outs) {
  const auto& [w, bias, out] = projection;
  outs = std::min(outs, w.shape[0] - first);
  return {.x = x.as<float>(),
          .x_stride = x.stride[0],
          .num_rows = static_cast<int>(x.shape[0]),
          .w = w.Rows(first, outs).data,
          .w_dtype = w.dtype,
          .w_stride = w.stride[0],
          .w_group = GroupOf(w),
          .num_outs = static_cast<int>(outs),
          .k = w.shape[1],
          .bias = bias.empty() ? nullptr : bias.as<float>() + first,
          .out = out.as<float>() + first,
          .out_stride = out.stride[0]};
}

// How the columns of w are ordered; null: as those of x.
const std::vector<int32_t>* OrderOf(const TensorView& w) {
  return w.int4 == nullptr || w.int4->order.empty() ? nullptr : &w.int4->order;
}

}  // namespace

int PackShares(int64_t num_rows, int64_t num_blocks) {
  constexpr int64_t kRowsPerShare = 24;
  return static_cast<int>(std::max<int64_t>(1, num_rows / (num_blocks * kRowsPerShare)));
}

ManyRowsCut CutManyRows(int64_t num_rows, std::span<const Projection> projections,
                        const ProductKernels& kernels, int num_threads) {
  // What a block costs besides its multiply-adds of a row and an output: as many as these rows
  // for each output, whose weights are prepared, and as many as these in all, until weights that
  // nobody has read ahead are there.
  constexpr int64_t kPrepareRows = 5;
  constexpr int64_t kStart = 2000;
  constexpr int64_t kLeastRows = 48;
  // Packed rows stay in the second-level cache while the outputs pass by.
  constexpr int64_t kPackedFloats = (384 << 10) / sizeof(float);
  const int64_t k = projections[0].w.shape[1];
  const int64_t most_rows =
      std::clamp<int64_t>(kPackedFloats / kernels.row_floats(k), kPanelRows, kernels.most_rows);
  ManyRowsCut best = {};
  int64_t least_cost = std::numeric_limits<int64_t>::max();
  int64_t row_blocks = CeilDiv(num_rows, most_rows);
  do {
    for (int64_t outs = kernels.many_outs; outs > 0; outs -= kPanelOuts) {
      int64_t items = 0;
      for (const Projection& projection : projections) {
        items += row_blocks * CeilDiv(projection.w.shape[0], outs);
      }
      const int64_t rows = CeilDiv(num_rows, row_blocks);
      const int64_t cost = CeilDiv(items, num_threads) * (outs * (rows + kPrepareRows) + kStart);
      if (cost < least_cost) {
        least_cost = cost;
        best = {.row_blocks = row_blocks, .outs = outs};
      }
    }
  } while (num_rows / ++row_blocks >= kLeastRows);
  return best;
}

int64_t RowBytesOf(const TensorView& w) { return w.stride[0] * DTypeSize(w.dtype); }

int GroupOf(const TensorView& w) { return w.int4 == nullptr ? 0 : w.int4->group; }

int64_t StreamedOuts(int64_t num_outs, int64_t row_bytes, const ProductKernels& kernels,
                     int num_threads) {
  const int64_t unit = kernels.few_outs;
  const int64_t share = CeilDiv(CeilDiv(num_outs, 2 * num_threads), unit) * unit;
  return std::clamp(kernels.few_bytes / row_bytes / unit * unit, unit, share);
}

void MatMulSchedule::Run(const MatMulArgs& args, const MatMulKernels& kernels, ThreadPool& pool,
                         std::vector<Scratch>& scratch) {
  if (args.x.shape[0] == 0) return;
  for (size_t begin = 0, end = 0; begin < args.projections.size(); begin = end) {
    const DType dtype = args.projections[begin].w.dtype;
    const std::vector<int32_t>* const order = OrderOf(args.projections[begin].w);
    const auto is_alike = [&](const TensorView& w) {
      return w.dtype == dtype && OrderOf(w) == order;
    };
    while (end < args.projections.size() && is_alike(args.projections[end].w)) ++end;
    RunAlike({.x = order == nullptr ? args.x : InOrder(args.x, *order, pool),
              .projections = args.projections.subspan(begin, end - begin)},
             kernels.For(dtype), pool, scratch);
  }
}

TensorView MatMulSchedule::InOrder(TensorView x, std::span<const int32_t> order, ThreadPool& pool) {
  const int64_t k = x.shape[1];
  float* const ordered = ordered_.Ensure(x.shape[0] * k);
  pool.ParallelFor(x.shape[0], [&](int64_t row, int) {
    const float* const from = x.row<float>(row);
    for (int64_t i = 0; i < k; ++i) ordered[row * k + i] = from[order[i]];
  });
  return TensorView::Dense(ordered, DType::kF32, {x.shape[0], k});
}

void MatMulSchedule::RunAlike(const MatMulArgs& args, const ProductKernels& kernels,
                              ThreadPool& pool, std::vector<Scratch>& scratch) {
  const auto& [x, projections] = args;
  const int64_t num_rows = x.shape[0];
  const int64_t k = x.shape[1];
  const bool streams = kernels.Streams(num_rows);
  int64_t num_outs = 0;
  for (const Projection& projection : projections) num_outs += projection.w.shape[0];
  const auto [row_blocks, outs] =
      streams ? ManyRowsCut{.row_blocks = 1,
                            .outs = StreamedOuts(num_outs, RowBytesOf(projections[0].w), kernels,
                                                 pool.num_threads())}
              : CutManyRows(num_rows, projections, kernels, pool.num_threads());
  const auto row_of = [&](int64_t block) { return block * num_rows / row_blocks; };

  const bool packs = kernels.Packs(num_rows);
  const int64_t row_floats = kernels.row_floats(k);
  float* const packed = packs ? packed_.Ensure(num_rows * row_floats) : nullptr;
  if (packs) {
    const int num_shares = PackShares(num_rows, row_blocks);
    pool.ParallelFor(row_blocks * num_shares, [&](int64_t item, int) {
      const int64_t block = item / num_shares;
      const int64_t row = row_of(block);
      kernels.pack_rows({.x = x.row<float>(row),
                         .x_stride = x.stride[0],
                         .num_rows = static_cast<int>(row_of(block + 1) - row),
                         .k = k,
                         .packed = packed + row * row_floats,
                         .share = static_cast<int>(item % num_shares),
                         .num_shares = num_shares});
    });
  }

  int64_t out_blocks = 0;
  for (const Projection& projection : projections) {
    out_blocks += CeilDiv(projection.w.shape[0], outs);
  }
  // Each cluster gets some of the outputs for all rows, the same in every step, so that it can have
  // their weights near. Inside one, all outputs of the same packed rows are neighbours.
  const bool outputs_first = pool.num_clusters() > 1;
  if (streams) runs_.Deal(out_blocks, pool.num_threads());
  pool.ParallelFor(row_blocks * out_blocks, [&](int64_t item, int thread) {
    if (streams) item = runs_.Take(thread);
    const Projection* projection = projections.data();
    const int64_t row_block = outputs_first ? item % row_blocks : item / out_blocks;
    int64_t out_block = outputs_first ? item / row_blocks : item % out_blocks;
    for (int64_t count; out_block >= (count = CeilDiv(projection->w.shape[0], outs));) {
      out_block -= count;
      ++projection;
    }
    const int64_t row = row_of(row_block);
    const int64_t end = row_of(row_block + 1);
    MatMulBlock block = BlockOf(x.Rows(row, end - row), *projection, out_block * outs, outs);
    if (packs) block.x = packed + row * row_floats;
    block.out += row * block.out_stride;
    kernels.multiply(
        block, streams ? nullptr : scratch[thread].Ensure(MatMulScratchFloats(block.num_rows)));
  });
}

}  // namespace mea::cpu
