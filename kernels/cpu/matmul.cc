#include "kernels/cpu/matmul.h"

#include <algorithm>

#include "kernels/cpu/int8_matmul.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/matmul.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which compiles this file once per target.
#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {

using cpu::kPanelDepth;
using cpu::kPanelOuts;
using cpu::MatMulBlock;
using cpu::PackArgs;

// Rows and outputs of a register tile over packed operands: 12 accumulators, 2 weights, 1 x.
constexpr int kTileRows = 6;
constexpr int kTileOuts = 2;

// Keeps GCC from making the load a memory operand of each use, which would load it again
// every time.
HWY_INLINE Vec InRegister(Vec v) {
#if HWY_COMPILER_GCC_ACTUAL && HWY_ARCH_X86
  asm("" : "+x"(v.raw));
#endif
  return v;
}

// Bytes by which a prefetch runs ahead: far enough for memory, near enough for the first-level
// cache.
constexpr int64_t kAhead = 512;

// The accumulators of kRows x kOuts elements: in registers inside Add, and in memory between two
// stretches of k. Spilling them is exact, so cutting k changes nothing.
template <int kRows, int kOuts>
struct Accumulators {
  Vec sum[kRows][kOuts];

  HWY_INLINE void Clear() {
    for (int r = 0; r < kRows; ++r) {
      for (int o = 0; o < kOuts; ++o) sum[r][o] = hn::Zero(F32());
    }
  }
  HWY_INLINE void Load(const float* memory) {
    for (int r = 0; r < kRows; ++r) {
      for (int o = 0; o < kOuts; ++o) {
        sum[r][o] = hn::Load(F32(), memory + (r * kOuts + o) * kLanes);
      }
    }
  }
  HWY_INLINE void Store(float* memory) const {
    for (int r = 0; r < kRows; ++r) {
      for (int o = 0; o < kOuts; ++o) {
        hn::Store(sum[r][o], F32(), memory + (r * kOuts + o) * kLanes);
      }
    }
  }

  // sum[r][o] += x[r] * w[o], lane by lane, over k elements; the rest of k padded with zeros.
  template <typename W>
  HWY_INLINE void Add(const float* x, int64_t x_stride, const W* w, int64_t w_stride, int64_t k) {
    int64_t i = 0;
    for (; i + kLanes <= k; i += kLanes) {
      Vec weights[kOuts];
      for (int o = 0; o < kOuts; ++o) {
        hwy::Prefetch(w + o * w_stride + i + kAhead / sizeof(W));
        weights[o] = LoadWide(w + o * w_stride + i);
      }
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

  // The same over packed operands, x as [steps][kRows][kLanes] and w as [steps][kOuts][kLanes].
  HWY_INLINE void AddPacked(const float* x, const float* w, int64_t steps) {
    for (int64_t i = 0; i < steps; ++i, x += kRows * kLanes, w += kOuts * kLanes) {
      Vec weights[kOuts];
      for (int o = 0; o < kOuts; ++o) weights[o] = hn::Load(F32(), w + o * kLanes);
      for (int r = 0; r < kRows; ++r) {
        const Vec value = InRegister(hn::Load(F32(), x + r * kLanes));
        for (int o = 0; o < kOuts; ++o) sum[r][o] = hn::MulAdd(value, weights[o], sum[r][o]);
      }
    }
  }

  // Writes elements (row, out), (row, out + out_step) ... of the block, and those of the rows
  // below.
  HWY_INLINE void Finish(const MatMulBlock& block, int row, int out, int out_step) const {
    for (int o = 0; o < kOuts; ++o, out += out_step) {
      const float bias = block.bias == nullptr ? 0.0f : block.bias[out];
      float* target = block.out + row * block.out_stride + out;
      for (int r = 0; r < kRows; ++r) target[r * block.out_stride] = Sum(sum[r][o]) + bias;
    }
  }
};

// Few rows: the weights are widened in registers and come from memory once. Tiles of at most four
// rows alternate with the weights while these are in the first-level cache. The outputs of a tile
// lie `out_step` apart, and the next tile takes their neighbours: memory is read in several streams
// far from each other that go straight on, which is twice as fast as in one.
constexpr int kStreamedRows = 4;
// Outputs of such a tile: at most 12 accumulators, in addition to the weights and x.
constexpr int StreamedOuts(int rows) { return rows == 4 ? 3 : 4; }

template <int kRows, int kOuts, typename W>
HWY_INLINE void StreamTile(const MatMulBlock& block, int row, int out, int out_step) {
  Accumulators<kRows, kOuts> tile;
  tile.Clear();
  tile.Add(block.x + row * block.x_stride, block.x_stride,
           static_cast<const W*>(block.w) + out * block.w_stride, out_step * block.w_stride,
           block.k);
  tile.Finish(block, row, out, out_step);
}

template <int kOuts, typename W>
void StreamRows(const MatMulBlock& block, int out, int out_step) {
  int row = 0;
  for (; row + kStreamedRows <= block.num_rows; row += kStreamedRows) {
    StreamTile<kStreamedRows, kOuts, W>(block, row, out, out_step);
  }
  switch (block.num_rows - row) {
    case 1:
      return StreamTile<1, kOuts, W>(block, row, out, out_step);
    case 2:
      return StreamTile<2, kOuts, W>(block, row, out, out_step);
    case 3:
      return StreamTile<3, kOuts, W>(block, row, out, out_step);
  }
}

template <int kOuts, typename W>
void StreamOuts(const MatMulBlock& block) {
  const int out_step = block.num_outs / kOuts;
  for (int out = 0; out < out_step; ++out) StreamRows<kOuts, W>(block, out, out_step);
  for (int out = kOuts * out_step; out < block.num_outs; ++out) StreamRows<1, W>(block, out, 1);
}

template <typename W>
void Stream(const MatMulBlock& block) {
  if (block.num_rows < kStreamedRows) {
    StreamOuts<StreamedOuts(1), W>(block);
  } else {
    StreamOuts<StreamedOuts(kStreamedRows), W>(block);
  }
}

// Many rows: they are dealt evenly to groups of at most kTileRows. Group g begins at row RowOf(g),
// and in packed memory at RowOf(g) times the padded k.
struct RowGroups {
  int num_rows;
  int num_groups;
  int64_t padded_k;

  RowGroups(int rows, int64_t k)
      : num_rows(rows),
        num_groups((rows + kTileRows - 1) / kTileRows),
        padded_k((k + kLanes - 1) / kLanes * kLanes) {}
  int RowOf(int group) const { return group * num_rows / num_groups; }
};

// Vector `i` of a row, the last one padded with zeros.
template <typename T>
HWY_INLINE Vec VectorOf(const T* row, int64_t i, int64_t k) {
  return i + kLanes <= k ? LoadWide(row + i) : LoadTail(row + i, k - i);
}

// [group][k / kLanes][rows of the group][kLanes]
void PackRows(const PackArgs& args) {
  const RowGroups groups(args.num_rows, args.k);
  const int end = args.EndGroup(groups.num_groups);
  for (int group = args.FirstGroup(groups.num_groups); group < end; ++group) {
    const int begin = groups.RowOf(group);
    const int rows = groups.RowOf(group + 1) - begin;
    float* target = args.packed + begin * groups.padded_k;
    for (int r = 0; r < rows; ++r) {
      const float* row = args.x + (begin + r) * args.x_stride;
      for (int64_t i = 0; i < args.k; i += kLanes) {
        hn::Store(VectorOf(row, i, args.k), F32(), target + i * rows + r * kLanes);
      }
    }
  }
}

// Widens `depth` elements of each output's weights into [pair of outputs][step][2][kLanes]; an odd
// last output stands alone.
template <typename W>
void PackPanel(const W* w, int64_t w_stride, int num_outs, int64_t depth, float* panel) {
  for (int o = 0; o < num_outs; ++o) {
    const W* row = w + o * w_stride;
    const int first = o / kTileOuts * kTileOuts;
    const int outs = std::min(kTileOuts, num_outs - first);
    float* target = panel + first * kPanelDepth + (o - first) * kLanes;
    for (int64_t i = 0; i < depth; i += kLanes) {
      hwy::Prefetch(row + w_stride + i);
      hn::Store(VectorOf(row, i, depth), F32(), target + i * outs);
    }
  }
}

// A stretch of k of a block: elements [begin, end).
struct Stretch {
  int64_t begin;
  int64_t end;
};

template <int kRows, int kOuts>
HWY_INLINE void PanelTile(const MatMulBlock& block, int row, int out, Stretch k, const float* x,
                          const float* w, float* sums) {
  Accumulators<kRows, kOuts> tile;
  if (k.begin == 0) {
    tile.Clear();
  } else {
    tile.Load(sums);
  }
  tile.AddPacked(x, w, (k.end - k.begin + kLanes - 1) / kLanes);
  if (k.end == block.k) {
    tile.Finish(block, row, out, 1);
  } else {
    tile.Store(sums);
  }
}

// One group of rows against the whole panel.
template <int kRows>
void PanelGroup(const MatMulBlock& block, int row, Stretch k, const float* x, const float* panel,
                float* sums) {
  int out = 0;
  for (; out + kTileOuts <= block.num_outs; out += kTileOuts) {
    PanelTile<kRows, kTileOuts>(block, row, out, k, x, panel + out * kPanelDepth,
                                sums + out * kRows * kLanes);
  }
  if (out < block.num_outs) {
    PanelTile<kRows, 1>(block, row, out, k, x, panel + out * kPanelDepth,
                        sums + out * kRows * kLanes);
  }
}

template <typename W>
void Panel(const MatMulBlock& block, float* scratch) {
  static_assert(kTileRows == 6);
  const RowGroups groups(block.num_rows, block.k);
  float* panel = scratch;
  float* sums = scratch + int64_t{kPanelOuts} * kPanelDepth;
  for (Stretch k = {.begin = 0, .end = 0}; k.begin < block.k; k.begin = k.end) {
    k.end = std::min(block.k, k.begin + kPanelDepth);
    PackPanel(static_cast<const W*>(block.w) + k.begin, block.w_stride, block.num_outs,
              k.end - k.begin, panel);
    for (int group = 0; group < groups.num_groups; ++group) {
      const int row = groups.RowOf(group);
      const int rows = groups.RowOf(group + 1) - row;
      const float* x = block.x + row * groups.padded_k + k.begin * rows;
      float* group_sums = sums + int64_t{row} * block.num_outs * kLanes;
      switch (rows) {
        case 6:
          PanelGroup<6>(block, row, k, x, panel, group_sums);
          break;
        case 5:
          PanelGroup<5>(block, row, k, x, panel, group_sums);
          break;
        case 4:
          PanelGroup<4>(block, row, k, x, panel, group_sums);
          break;
        default:
          // More than kTileRows rows dealt evenly leave no smaller group.
          PanelGroup<3>(block, row, k, x, panel, group_sums);
      }
    }
  }
}

template <typename W>
void Multiply(const MatMulBlock& block, float* scratch) {
  if (scratch == nullptr) {
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

constexpr int kLoopSums = 12;

void LoopOfFloats(int64_t rounds) {
  Vec sums[kLoopSums];
  for (int i = 0; i < kLoopSums; ++i) sums[i] = hn::Set(F32(), static_cast<float>(i));
  const Vec factor = hn::Set(F32(), 0.999f);
  const Vec term = hn::Set(F32(), 0.001f);
  for (int64_t round = 0; round < rounds; ++round) {
    for (int i = 0; i < kLoopSums; ++i) sums[i] = hn::MulAdd(sums[i], factor, term);
  }
  for (int i = 1; i < kLoopSums; ++i) sums[0] = hn::Add(sums[0], sums[i]);
  volatile float sink = Sum(sums[0]);
  static_cast<void>(sink);
}

// For vectors of up to 16 lanes.
int64_t RowFloats(int64_t k) { return (k + 15) / 16 * 16; }

cpu::ProductKernels ChooseMatMul() {
  return {.row_floats = RowFloats,
          .pack_rows = PackRows,
          .multiply = MatMul,
          .loop = {.run = LoopOfFloats, .flops = 2 * kLoopSums * kLanes}};
}

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mea {
HWY_EXPORT(ChooseMatMul);

namespace cpu {

ProductKernels GetFloatMatMulKernels() { return HWY_DYNAMIC_DISPATCH(ChooseMatMul)(); }

int64_t MatMulScratchFloats(int num_rows) {
  constexpr int kMaxLanes = 16;
  return int64_t{kPanelOuts} * (kPanelDepth + num_rows * kMaxLanes);
}

}  // namespace cpu
}  // namespace mea
#endif
