#pragma once

// For products whose lanes are outputs: a vector of the rows of weights is transposed, so that it
// holds the same four bytes of k of each. Every lane then adds up its element of the result along
// k: no sums over lanes, and few rows and many rows add in the same order.
//
// Few rows: the weights of a vector of outputs are transposed in registers and meet all rows at
// once. Many rows: a stretch of the weights of a tile's outputs is transposed into a panel, which
// stays in the first-level cache while the groups of rows pass by. Meanwhile memory is read ahead
// by as many outputs, in the order in which it lies: the streams that go through the rows of
// weights are too short to be recognised.
//
// The file that includes this has included the lanes (avx512_lanes-inl.h, avx2_lanes-inl.h) and
// defined MEA_PRODUCT_TARGET, the instruction set of its products. Its `Kind` of products has
//
//   Weight                      the type of the weights
//   BytesOf(k)                  the bytes of k of them
//   kBeginsAnywhere             whether rows may begin inside a vector's worth of bytes
//   kUnitVectors                the vectors of weights that it multiplies at a time
//   kPreparedVectors            what these become before
//   kMostDepth                  of k in a panel, which has to fit the first-level cache
//   Groups                      how rows are grouped
//   FewVectors(rows)            the vectors of outputs at a time where rows are few
//   Preparation                 of a block and the rows of a vector of outputs: writes the units
//                               of a transposed vector from an element on, their vectors apart
//   Multiply(x, weights, ahead, sums)
//                               adds a unit of k of all rows to the sums; moves the others on
//   Finish                      what makes a result of a sum, for a vector of outputs
//   RowFloats(k)                the floats in which a row of x is packed
//
// and packs its x as [group of rows][unit of k][what Multiply reads of all rows].

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <utility>

#include "kernels/cpu/matmul.h"

// Before each loop over an array of sums: GCC keeps it in registers only if it sees no loop.
#define MEA_UNROLL _Pragma("GCC unroll 16")

HWY_PUSH_ATTRIBUTES(MEA_PRODUCT_TARGET)
namespace mea::cpu {
namespace {

constexpr int kVectorBytes = 4 * kLanes;

// Vectors of outputs of a register tile where rows are many.
constexpr int kTileVectors = 2;
constexpr int kTileOuts = kTileVectors * kLanes;
// Rows of a block: their weights are transposed once for all of them.
constexpr int kMostPanelRows = 512;

// The elements of a row in some bytes.
template <typename Kind>
constexpr int64_t DepthOf(int64_t bytes) {
  constexpr int64_t kWhole = 32;  // of which all kinds have whole units
  return kWhole * bytes / Kind::BytesOf(kWhole);
}

// Four bytes of k of every lane are a vector of weights; a unit is some of these.
template <typename Kind>
constexpr int64_t UnitsOf(int64_t k) {
  constexpr int64_t kUnitDepth = DepthOf<Kind>(4 * Kind::kUnitVectors);
  return (k + kUnitDepth - 1) / kUnitDepth;
}

// The vectors that a step becomes: a vector of each lane.
template <typename Kind>
constexpr int kStepVectors = kLanes / Kind::kUnitVectors* Kind::kPreparedVectors;

// Elements [begin, end) of k.
struct Stretch {
  int64_t begin;
  int64_t end;

  int64_t depth() const { return end - begin; }
};

// The depth of a panel: the stretches of k are as even as whole vectors of weights allow, since a
// short one would not pay for loading and storing its sums.
template <typename Kind>
int64_t PanelDepth(int64_t k) {
  constexpr int64_t kStep = DepthOf<Kind>(kVectorBytes);
  const int64_t count = (k + Kind::kMostDepth - 1) / Kind::kMostDepth;
  return (k + count * kStep - 1) / (count * kStep) * kStep;
}

// The groups of rows that meet the weights together. Up to kFew rows are one group; more are dealt
// evenly to groups of at most kMost, and to two or more: one alone would have to read ahead too
// fast.
template <int kFew, int kMost>
struct RowGroups {
  static constexpr int kMaxFewRows = kFew;
  static constexpr int kMostRows = kMost;
  static constexpr int GroupsOf(int rows) {
    return rows <= kFew ? 1 : std::max(2, (rows + kMost - 1) / kMost);
  }
  // The least of many rows.
  static constexpr int kLeastRows = [] {
    int least = kMost;
    for (int rows = kFew + 1; rows <= kMostPanelRows; ++rows) {
      least = std::min(least, rows / GroupsOf(rows));
    }
    return least;
  }();

  int num_rows;
  int num_groups;

  explicit RowGroups(int rows) : num_rows(rows), num_groups(GroupsOf(rows)) {}
  int RowOf(int group) const { return group * num_rows / num_groups; }
  int RowsOf(int group) const { return RowOf(group + 1) - RowOf(group); }
};

// The rows of weights of a vector of outputs; behind the last one of the block, that one again.
template <typename Weight>
HWY_INLINE void RowsOf(const MatMulBlock& block, int out, const Weight* (&rows)[kLanes]) {
  for (int lane = 0; lane < kLanes; ++lane) {
    rows[lane] = static_cast<const Weight*>(block.w) +
                 std::min(out + lane, block.num_outs - 1) * block.w_stride;
  }
}

HWY_INLINE Floats BiasOf(const MatMulBlock& block, int out) {
  if (block.bias == nullptr) return Floats{};
  return (Floats)FirstBytes(4 * int64_t{block.num_outs - out}).Load(block.bias + out);
}

HWY_INLINE void StoreResult(const MatMulBlock& block, int row, int out, Floats result) {
  StoreFirst((Words)result, block.num_outs - out, block.out + row * block.out_stride + out);
}

// Reads memory ahead as it lies, kLines lines with each vector of weights: more at a time would
// hold up the loads.
template <int kLines>
struct ReadAhead {
  const char* next;
  int64_t step;

  HWY_INLINE void Read() {
    for (int line = 0; line < kLines; ++line) _mm_prefetch(next + 64 * line, _MM_HINT_T0);
    next += step;
  }
};

// A vector of each row's weights, from the beginning of a stretch on, transposed. Behind its end
// they are zeros, and no byte there is read.
template <typename Kind>
HWY_INLINE void LoadTransposed(const typename Kind::Weight* const (&rows)[kLanes], Stretch k,
                               Words (&v)[kLanes]) {
  const FirstBytes inside(Kind::BytesOf(k.depth()));
  const int64_t begin = Kind::BytesOf(k.begin);
  for (int lane = 0; lane < kLanes; ++lane) {
    v[lane] = inside.Load(reinterpret_cast<const char*>(rows[lane]) + begin);
  }
  Transpose(v);
}

// The Preparation of weights that are multiplied as they are stored, but for some of their bits.
template <typename Weight, int32_t kFlipped = 0>
struct PlainWeights {
  HWY_INLINE PlainWeights(const MatMulBlock&, const Weight* const*) {}
  HWY_INLINE void operator()(const Words (&v)[kLanes], int64_t, Words* to, int apart) const {
    for (int j = 0; j < kLanes; ++j) to[j * apart] = v[j] ^ kFlipped;
  }
};

// The elements of the first step through a row. In a file, rows begin anywhere in a line: the steps
// behind the first are to read one line each and not two.
template <typename Kind>
int64_t FirstDepth(const typename Kind::Weight* row) {
  if constexpr (Kind::kBeginsAnywhere) {
    const auto behind = static_cast<int64_t>(reinterpret_cast<uintptr_t>(row) % kVectorBytes);
    if (behind % (4 * Kind::kUnitVectors) == 0) return DepthOf<Kind>(kVectorBytes - behind);
  }
  return DepthOf<Kind>(kVectorBytes);
}

// Few rows against the weights of kVectors vectors of outputs.
template <typename Kind, int kRows, int kVectors>
void StreamTile(const MatMulBlock& block, int out) {
  using Weight = typename Kind::Weight;
  constexpr int64_t kStepDepth = DepthOf<Kind>(kVectorBytes);
  const Weight* rows[kVectors][kLanes];
  MEA_UNROLL
  for (int c = 0; c < kVectors; ++c) RowsOf(block, out + c * kLanes, rows[c]);
  auto preparations = [&]<int... kC>(std::integer_sequence<int, kC...>) {
    return std::array{typename Kind::Preparation(block, rows[kC])...};
  }
  (std::make_integer_sequence<int, kVectors>());
  ReadAhead<kVectors> ahead = {
      .next = reinterpret_cast<const char*>(rows[0][0] + kVectors * kLanes * block.w_stride),
      .step = kVectors * kVectorBytes};
  const float* x = block.x;
  Floats sums[kRows][kVectors];
  MEA_UNROLL
  for (int r = 0; r < kRows; ++r) {
    MEA_UNROLL
    for (int c = 0; c < kVectors; ++c) sums[r][c] = Floats{};
  }
  Stretch step = {.begin = 0, .end = std::min(block.k, FirstDepth<Kind>(rows[0][0]))};
  while (step.begin < block.k) {
    asm("" : "+m"(rows));
    Words in_memory[kStepVectors<Kind>][kVectors];
    MEA_UNROLL
    for (int c = 0; c < kVectors; ++c) {
      Words transposed[kLanes];
      LoadTransposed<Kind>(rows[c], step, transposed);
      preparations[c](transposed, step.begin, &in_memory[0][c], kVectors);
    }
    // Otherwise the weights would stay in registers, and the sums would leave them.
    asm("" : "+m"(in_memory));
    const Words* weights = in_memory[0];
    int64_t num_units = UnitsOf<Kind>(step.depth());
    step = {.begin = step.end, .end = std::min(block.k, step.end + kStepDepth)};
    asm("" : "+r"(num_units));  // not unrolled: GCC would mix the units
    for (int64_t unit = 0; unit < num_units; ++unit) Kind::Multiply(x, weights, ahead, sums);
  }
  MEA_UNROLL
  for (int c = 0; c < kVectors; ++c) {
    const typename Kind::Finish finish(block, out + c * kLanes);
    MEA_UNROLL
    for (int r = 0; r < kRows; ++r) StoreResult(block, r, out + c * kLanes, finish(sums[r][c]));
  }
}

template <typename Kind, int kRows>
void StreamOuts(const MatMulBlock& block) {
  constexpr int kVectors = Kind::FewVectors(kRows);
  int out = 0;
  for (; out + (kVectors - 1) * kLanes < block.num_outs; out += kVectors * kLanes) {
    StreamTile<Kind, kRows, kVectors>(block, out);
  }
  if (out < block.num_outs) StreamTile<Kind, kRows, 1>(block, out);
}

// A stretch of the weights of a tile's outputs, prepared: [vector of k][kTileVectors].
struct Panel {
  const MatMulBlock& block;
  int out;  // its first output
  Stretch k;
  const Words* weights;
};

template <typename Kind>
void TransposePanel(const MatMulBlock& block, int out, Stretch k, Words* weights) {
  using Weight = typename Kind::Weight;
  MEA_UNROLL
  for (int c = 0; c < kTileVectors; ++c) {
    const Weight* rows[kLanes];
    RowsOf(block, out + c * kLanes, rows);
    typename Kind::Preparation prepare(block, rows);
    Words* target = weights + c;
    for (int64_t i = k.begin; i < k.end; i += DepthOf<Kind>(kVectorBytes)) {
      Words transposed[kLanes];
      LoadTransposed<Kind>(rows, {.begin = i, .end = k.end}, transposed);
      prepare(transposed, i, target, kTileVectors);
      target += kStepVectors<Kind> * kTileVectors;
    }
  }
}

// The lines that a group of rows will write, each in another page: the stores would wait for them.
template <int kRows>
HWY_INLINE void AskForResults(const MatMulBlock& block, int row, int out) {
  float* const first = block.out + row * block.out_stride + out;
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kTileVectors; ++c) {
      __builtin_prefetch(first + r * block.out_stride + c * kLanes, 1);
    }
  }
}

// One group of rows against a panel. Their sums lie in `kept`, [kRows][kTileOuts], between two
// stretches.
template <typename Kind, int kRows>
void MultiplyPanel(const Panel& panel, int row, const float* x, ReadAhead<1>& read_ahead,
                   float* kept) {
  const MatMulBlock& block = panel.block;
  auto* const vectors = reinterpret_cast<Floats*>(kept);
  Floats sums[kRows][kTileVectors];
  MEA_UNROLL
  for (int r = 0; r < kRows; ++r) {
    MEA_UNROLL
    for (int c = 0; c < kTileVectors; ++c) {
      sums[r][c] = panel.k.begin == 0 ? Floats{} : vectors[r * kTileVectors + c];
    }
  }
  if (panel.k.end == block.k) AskForResults<kRows>(block, row, panel.out);
  const Words* weights = panel.weights;
  const int64_t num_units = UnitsOf<Kind>(panel.k.depth());
  ReadAhead<1> ahead = read_ahead;
  for (int64_t unit = 0; unit < num_units; ++unit) Kind::Multiply(x, weights, ahead, sums);
  read_ahead = ahead;
  if (panel.k.end < block.k) {
    MEA_UNROLL
    for (int r = 0; r < kRows; ++r) {
      MEA_UNROLL
      for (int c = 0; c < kTileVectors; ++c) vectors[r * kTileVectors + c] = sums[r][c];
    }
    return;
  }
  MEA_UNROLL
  for (int c = 0; c < kTileVectors; ++c) {
    const int out = panel.out + c * kLanes;
    const typename Kind::Finish finish(block, out);
    MEA_UNROLL
    for (int r = 0; r < kRows; ++r) StoreResult(block, row + r, out, finish(sums[r][c]));
  }
}

template <typename Kind, int... kLess>
constexpr auto StreamTable(std::integer_sequence<int, kLess...>) {
  return std::array{StreamOuts<Kind, 1 + kLess>...};
}
template <typename Kind, int... kMore>
constexpr auto PanelTable(std::integer_sequence<int, kMore...>) {
  return std::array{MultiplyPanel<Kind, Kind::Groups::kLeastRows + kMore>...};
}

template <typename Kind>
void MultiplyMany(const MatMulBlock& block, float* scratch) {
  using Groups = typename Kind::Groups;
  using Weight = typename Kind::Weight;
  static constexpr auto kTable = PanelTable<Kind>(
      std::make_integer_sequence<int, Groups::kMostRows - Groups::kLeastRows + 1>());
  const Groups rows(block.num_rows);
  const int64_t depth = PanelDepth<Kind>(block.k);
  auto* const weights = reinterpret_cast<Words*>(scratch);
  constexpr int64_t kPanelFloats =
      Kind::kMostDepth / DepthOf<Kind>(kVectorBytes) * kStepVectors<Kind> * kTileVectors * kLanes;
  static_assert(kPanelFloats <= kPanelOuts * kPanelDepth);
  float* const kept = scratch + kPanelFloats;
  for (int out = 0; out < block.num_outs; out += kTileOuts) {
    ReadAhead<1> ahead = {
        .next = reinterpret_cast<const char*>(static_cast<const Weight*>(block.w) +
                                              (out + kTileOuts) * block.w_stride),
        .step = (4 * kTileOuts + rows.num_groups - 1) / rows.num_groups};
    for (int64_t begin = 0; begin < block.k; begin += depth) {
      const Stretch k = {.begin = begin, .end = std::min(block.k, begin + depth)};
      TransposePanel<Kind>(block, out, k, weights);
      const Panel panel = {.block = block, .out = out, .k = k, .weights = weights};
      for (int group = 0; group < rows.num_groups; ++group) {
        const int row = rows.RowOf(group);
        const int count = rows.RowsOf(group);
        const float* x =
            block.x + row * Kind::RowFloats(block.k) + count * Kind::RowFloats(k.begin);
        kTable[count - Groups::kLeastRows](panel, row, x, ahead, kept + row * kTileOuts);
      }
    }
  }
}

template <typename Few, typename Many = Few>
void MultiplyTransposed(const MatMulBlock& block, float* scratch) {
  if (scratch != nullptr) return MultiplyMany<Many>(block, scratch);
  static constexpr auto kTable =
      StreamTable<Few>(std::make_integer_sequence<int, Few::Groups::kMaxFewRows>());
  kTable[block.num_rows - 1](block);
}

}  // namespace
}  // namespace mea::cpu
HWY_POP_ATTRIBUTES
