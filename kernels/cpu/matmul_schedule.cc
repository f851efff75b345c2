#include "kernels/cpu/matmul_schedule.h"

#include <algorithm>

namespace mea::cpu {
namespace {

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// All rows against outputs [first, first + outs), x as it lies.
MatMulBlock BlockOf(const MatMulArgs& args, int64_t first, int64_t outs) {
  outs = std::min(outs, args.w.shape[0] - first);
  return {.x = args.x.as<float>(),
          .x_stride = args.x.stride[0],
          .num_rows = static_cast<int>(args.x.shape[0]),
          .w = args.w.Rows(first, outs).data,
          .w_dtype = args.w.dtype,
          .w_stride = args.w.stride[0],
          .num_outs = static_cast<int>(outs),
          .k = args.w.shape[1],
          .bias = args.bias.empty() ? nullptr : args.bias.as<float>() + first,
          .out = args.out.as<float>() + first,
          .out_stride = args.out.stride[0]};
}

}  // namespace

int64_t StreamedOuts(int64_t num_outs, int num_threads) {
  constexpr int64_t kTileOuts = 12;  // register tiles have 3 or 4 outputs
  const int64_t share = CeilDiv(num_outs, 4 * num_threads);
  return std::clamp<int64_t>(CeilDiv(share, kTileOuts) * kTileOuts, kTileOuts, 43 * kTileOuts);
}

void MatMulSchedule::Run(const MatMulArgs& args, const MatMulKernels& kernels, ThreadPool& pool,
                         std::vector<Scratch>& scratch) {
  if (args.x.shape[0] == 0) return;
  if (args.x.shape[0] <= kMaxStreamedRows) {
    RunStreamed(args, kernels.For(args.w.dtype), pool);
  } else {
    RunPacked(args, kernels.For(args.w.dtype), pool, scratch);
  }
}

void MatMulSchedule::RunStreamed(const MatMulArgs& args, const ProductKernels& kernels,
                                 ThreadPool& pool) {
  const int64_t num_outs = args.w.shape[0];
  const int64_t outs = StreamedOuts(num_outs, pool.num_threads());
  const auto num_rows = static_cast<int>(args.x.shape[0]);
  const int64_t k = args.w.shape[1];
  const float* x = args.x.as<float>();
  if (IsPacked(num_rows, args.w.dtype)) {
    float* const packed = packed_.Ensure(PackedFloats(num_rows, k, args.w.dtype));
    kernels.pack_rows(x, args.x.stride[0], num_rows, k, packed);
    x = packed;
  }
  pool.ParallelFor(CeilDiv(num_outs, outs), [&](int64_t item, int) {
    MatMulBlock block = BlockOf(args, item * outs, outs);
    block.x = x;
    kernels.multiply(block, nullptr);
  });
}

void MatMulSchedule::RunPacked(const MatMulArgs& args, const ProductKernels& kernels,
                               ThreadPool& pool, std::vector<Scratch>& scratch) {
  const int64_t num_rows = args.x.shape[0];
  const int64_t num_outs = args.w.shape[0];
  const int64_t k = args.w.shape[1];
  const int64_t row_blocks = CeilDiv(num_rows, kPanelRows);
  const int64_t out_blocks = CeilDiv(num_outs, kPanelOuts);
  const DType dtype = args.w.dtype;
  float* packed = packed_.Ensure(PackedFloats(num_rows, k, dtype));
  const auto row_of = [&](int64_t block) { return block * num_rows / row_blocks; };

  pool.ParallelFor(row_blocks, [&](int64_t block, int) {
    const int64_t row = row_of(block);
    kernels.pack_rows(args.x.row<float>(row), args.x.stride[0],
                      static_cast<int>(row_of(block + 1) - row), k,
                      packed + PackedFloats(row, k, dtype));
  });
  pool.ParallelFor(row_blocks * out_blocks, [&](int64_t item, int thread) {
    const int64_t row = row_of(item / out_blocks);
    const int64_t end = row_of(item / out_blocks + 1);
    MatMulBlock block = BlockOf(args, item % out_blocks * kPanelOuts, kPanelOuts);
    block.x = packed + PackedFloats(row, k, dtype);
    block.num_rows = static_cast<int>(end - row);
    block.out += row * block.out_stride;
    kernels.multiply(block, scratch[thread].Ensure(MatMulScratchFloats(block.num_rows)));
  });
}

}  // namespace mea::cpu
