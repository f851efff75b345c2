#include "kernels/cpu/matmul.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/matmul.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which compiles this file once per target.
#include <hwy/highway.h>

#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {

using cpu::kPanelDepth;
using cpu::kPanelOuts;
using cpu::MatMulBlock;

// The accumulators of kRows x kOuts elements: in registers inside Accumulate, and in memory
// between two stretches of k. Spilling them is exact, so cutting k changes nothing.
template <int kRows, int kOuts>
struct Accumulators {
  Vec sum[kRows][kOuts];

  HWY_INLINE void Clear() {
    for (int r = 0; r < kRows; ++r) {
      for (int o = 0; o < kOuts; ++o) sum[r][o] = hn::Zero(F32());
    }
  }
  HWY_INLINE void Load(const float* memory, int64_t row_stride) {
    for (int r = 0; r < kRows; ++r) {
      for (int o = 0; o < kOuts; ++o) {
        sum[r][o] = hn::Load(F32(), memory + r * row_stride + o * kLanes);
      }
    }
  }
  HWY_INLINE void Store(float* memory, int64_t row_stride) const {
    for (int r = 0; r < kRows; ++r) {
      for (int o = 0; o < kOuts; ++o) {
        hn::Store(sum[r][o], F32(), memory + r * row_stride + o * kLanes);
      }
    }
  }

  // sum[r][o] += x[r] * w[o], lane by lane, over k elements; the rest of k padded with zeros.
  template <typename W>
  HWY_INLINE void Add(const float* x, int64_t x_stride, const W* w, int64_t w_stride, int64_t k) {
    int64_t i = 0;
    for (; i + kLanes <= k; i += kLanes) {
      Vec weights[kOuts];
      for (int o = 0; o < kOuts; ++o) weights[o] = LoadWide(w + o * w_stride + i);
      for (int r = 0; r < kRows; ++r) {
        const Vec value = LoadWide(x + r * x_stride + i);
        for (int o = 0; o < kOuts; ++o) sum[r][o] = hn::MulAdd(value, weights[o], sum[r][o]);
      }
    }
    if (i == k) return;
    for (int r = 0; r < kRows; ++r) {
      const Vec value = LoadTail(x + r * x_stride + i, k - i);
      for (int o = 0; o < kOuts; ++o) {
        sum[r][o] = hn::MulAdd(value, LoadTail(w + o * w_stride + i, k - i), sum[r][o]);
      }
    }
  }

  // Writes element (row, out) of the block and its neighbours.
  HWY_INLINE void Finish(const MatMulBlock& block, int row, int out) const {
    for (int r = 0; r < kRows; ++r) {
      float* target = block.out + (row + r) * block.out_stride + out;
      for (int o = 0; o < kOuts; ++o) {
        const float bias = block.bias == nullptr ? 0.0f : block.bias[out + o];
        target[o] = Sum(sum[r][o]) + bias;
      }
    }
  }
};

// Few rows: the weights are widened in registers and read from memory once, or once per kRows.
template <int kRows, int kOuts, typename W>
HWY_INLINE int StreamOuts(const MatMulBlock& block, int row, int out) {
  const W* weights = static_cast<const W*>(block.w);
  for (; out + kOuts <= block.num_outs; out += kOuts) {
    Accumulators<kRows, kOuts> tile;
    tile.Clear();
    tile.Add(block.x + row * block.x_stride, block.x_stride, weights + out * block.w_stride,
             block.w_stride, block.k);
    tile.Finish(block, row, out);
  }
  return out;
}

template <int kRows, typename W>
void StreamRows(const MatMulBlock& block, int row) {
  constexpr int kOuts = kRows <= 3 ? 4 : 2;
  const int out = StreamOuts<kRows, kOuts, W>(block, row, 0);
  StreamOuts<kRows, 1, W>(block, row, out);
}

template <typename W>
void Stream(const MatMulBlock& block) {
  static_assert(cpu::kMaxStreamedRows == 6);
  switch (block.num_rows) {
    case 1:
      return StreamRows<1, W>(block, 0);
    case 2:
      return StreamRows<2, W>(block, 0);
    case 3:
      return StreamRows<3, W>(block, 0);
    case 4:
      return StreamRows<4, W>(block, 0);
    case 5:
      return StreamRows<5, W>(block, 0);
    case 6:
      return StreamRows<6, W>(block, 0);
  }
}

// Many rows: one stretch of k at a time, the weights of all outputs widened into `panel`
// ([num_outs][kPanelDepth]), the accumulators of all elements kept in `sums`
// ([num_rows][num_outs][kLanes]).
template <int kRows, int kOuts>
HWY_INLINE int PanelOuts(const MatMulBlock& block, int row, int out, int64_t k_begin, int64_t depth,
                         const float* panel, float* sums) {
  const int64_t sums_stride = block.num_outs * kLanes;
  for (; out + kOuts <= block.num_outs; out += kOuts) {
    Accumulators<kRows, kOuts> tile;
    float* memory = sums + row * sums_stride + out * kLanes;
    if (k_begin == 0) {
      tile.Clear();
    } else {
      tile.Load(memory, sums_stride);
    }
    tile.Add(block.x + row * block.x_stride + k_begin, block.x_stride, panel + out * kPanelDepth,
             kPanelDepth, depth);
    if (k_begin + depth == block.k) {
      tile.Finish(block, row, out);
    } else {
      tile.Store(memory, sums_stride);
    }
  }
  return out;
}

template <int kRows>
HWY_INLINE int PanelRows(const MatMulBlock& block, int row, int64_t k_begin, int64_t depth,
                         const float* panel, float* sums) {
  for (; row + kRows <= block.num_rows; row += kRows) {
    const int out = PanelOuts<kRows, 2>(block, row, 0, k_begin, depth, panel, sums);
    PanelOuts<kRows, 1>(block, row, out, k_begin, depth, panel, sums);
  }
  return row;
}

template <typename W>
void WidenPanel(const W* w, int64_t w_stride, int num_outs, int64_t depth, float* panel) {
  for (int o = 0; o < num_outs; ++o) {
    const W* row = w + o * w_stride;
    float* target = panel + o * kPanelDepth;
    int64_t i = 0;
    for (; i + kLanes <= depth; i += kLanes) hn::Store(LoadWide(row + i), F32(), target + i);
    if (i < depth) hn::Store(LoadTail(row + i, depth - i), F32(), target + i);
  }
}

template <typename W>
void Panel(const MatMulBlock& block, float* scratch) {
  float* panel = scratch;
  float* sums = scratch + int64_t{kPanelOuts} * kPanelDepth;
  for (int64_t k_begin = 0; k_begin < block.k; k_begin += kPanelDepth) {
    const int64_t depth = std::min<int64_t>(kPanelDepth, block.k - k_begin);
    WidenPanel(static_cast<const W*>(block.w) + k_begin, block.w_stride, block.num_outs, depth,
               panel);
    int row = PanelRows<6>(block, 0, k_begin, depth, panel, sums);
    row = PanelRows<3>(block, row, k_begin, depth, panel, sums);
    PanelRows<1>(block, row, k_begin, depth, panel, sums);
  }
}

template <typename W>
void Multiply(const MatMulBlock& block, float* scratch) {
  if (block.num_rows <= cpu::kMaxStreamedRows) {
    Stream<W>(block);
  } else {
    Panel<W>(block, scratch);
  }
}

void MatMul(const MatMulBlock& block, float* scratch) {
  switch (block.w_dtype) {
    case DType::kF32:
      return Multiply<float>(block, scratch);
    case DType::kBf16:
      return Multiply<Bf16>(block, scratch);
    case DType::kF16:
      return Multiply<F16>(block, scratch);
    default:
      MEA_CHECK(false);
  }
}

cpu::MatMulKernel ChooseMatMul() { return MatMul; }

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mea {
HWY_EXPORT(ChooseMatMul);

namespace cpu {

MatMulKernel GetMatMulKernel() { return HWY_DYNAMIC_DISPATCH(ChooseMatMul)(); }

int64_t MatMulScratchFloats(int num_rows) {
  constexpr int kMaxLanes = 16;
  if (num_rows <= kMaxStreamedRows) return 0;
  return int64_t{kPanelOuts} * (kPanelDepth + std::min(num_rows, kPanelRows) * kMaxLanes);
}

}  // namespace cpu
}  // namespace mea
#endif
