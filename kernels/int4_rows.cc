#include "kernels/int4_rows.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "kernels/host_memory.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

constexpr int kLargest = 15;

int Integer(const Int4Pair* row, int64_t i) {
  const int byte = row[i / kInt4Block * kInt4BlockBytes + i % kInt4BlockBytes].bits;
  return i % kInt4Block < kInt4BlockBytes ? byte & 15 : byte >> 4;
}

// A group's scale and zero, and what they leave.
struct Fit {
  float scale = 0;
  float zero = 0;
  float error = std::numeric_limits<float>::infinity();
};

// Rounds to nearest, ties to even, within 0..15; without a call, so that a compiler makes vectors.
inline float Rounded(float x) {
  constexpr float kNoFraction = 0x1.8p23f;
  return std::clamp((x + kNoFraction) - kNoFraction, 0.0f, static_cast<float>(kLargest));
}

// A group's elements, zeros behind them: these cost nothing whatever the fit.
struct Elements {
  static constexpr int kLanes = 16;  // side by side, of which a compiler makes vectors
  alignas(64) float x[kMaxInt4Group] = {};
  int count = 0;  // a multiple of kLanes

  explicit Elements(std::span<const float> from)
      : count((static_cast<int>(from.size()) + kLanes - 1) / kLanes * kLanes) {
    std::copy(from.begin(), from.end(), x);
  }

  // The sum of term(element).
  template <typename Term>
  float Sum(const Term& term) const {
    float lanes[kLanes] = {};
    for (int i = 0; i < count; i += kLanes) {
      for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += term(x[i + lane]);
    }
    return std::accumulate(lanes, lanes + kLanes, 0.0f);
  }
};

// The scale of least squared error for the integers that `scale` and `zero` give.
float BestScale(const Elements& elements, float scale, float zero) {
  const float inverse = 1 / scale;
  const auto integer = [&](float x) { return Rounded(x * inverse + zero) - zero; };
  const float products = elements.Sum([&](float x) { return x * integer(x); });
  const float squares = elements.Sum([&](float x) { return integer(x) * integer(x); });
  return squares > 0 && products > 0 ? products / squares : scale;
}

float ErrorOf(const Elements& elements, float scale, float zero) {
  const float inverse = 1 / scale;
  return elements.Sum([&](float x) {
    const float off = x - scale * (Rounded(x * inverse + zero) - zero);
    return off * off;
  });
}

// Scales are those that F16 has; x has been scaled so that they are in its range.
Fit BestFit(std::span<const float> x) {
  const Elements elements(x);
  const auto [least, most] = std::minmax_element(x.begin(), x.end());
  const float low = std::min(*least, 0.0f), high = std::max(*most, 0.0f);
  Fit best;
  if (low == high) return {.scale = 0, .zero = 8, .error = 0};
  // Ranges cut at both ends: a coarse step for all elements costs more than a large error of one.
  for (int cut = 0; cut < 10; ++cut) {
    const float step = (high - low) * (1.0f - 0.04f * static_cast<float>(cut)) / kLargest;
    for (int shift = 0; shift < 2; ++shift) {
      const float zero = Rounded(std::floor(-low / step) + static_cast<float>(shift));
      const float scale = ToFloat(ToF16(BestScale(elements, step, zero)));
      if (scale < 0x1p-24f) continue;
      const float error = ErrorOf(elements, scale, zero);
      if (error < best.error) best = {.scale = scale, .zero = zero, .error = error};
    }
  }
  return best.scale > 0 ? best : Fit{.scale = 0, .zero = 8, .error = 0};
}

}  // namespace

absl::StatusOr<Tensor> AllocateInt4Rows(int64_t rows, int64_t k, Int4Layout layout) {
  struct Owner {
    Tensor memory;
    Int4Layout layout;
  };
  const std::array<int64_t, 2> shape = {rows, Int4RowStride(k, layout.group)};
  MEA_ASSIGN_OR_RETURN(Tensor memory, AllocateHostTensor(shape, DType::kI4, Presence::kAtUse));
  TensorView view = memory.view();
  const auto owner =
      std::make_shared<Owner>(Owner{.memory = std::move(memory), .layout = std::move(layout)});
  view.shape[1] = k;
  view.int4 = &owner->layout;
  return Tensor(view, owner);
}

void StoreInt4Row(std::span<const uint8_t> integers, std::span<const Int4Group> groups, float scale,
                  Int4Pair* row) {
  const int64_t k = std::ssize(integers);
  std::fill_n(row, Int4GroupsOffset(k), Int4Pair{});
  for (int64_t i = 0; i < k; ++i) {
    uint8_t& byte = row[i / kInt4Block * kInt4BlockBytes + i % kInt4BlockBytes].bits;
    byte = static_cast<uint8_t>(
        byte | (i % kInt4Block < kInt4BlockBytes ? integers[i] : integers[i] << 4));
  }
  Int4Pair* const behind = row + Int4GroupsOffset(k);
  std::memcpy(behind, groups.data(), groups.size_bytes());
  std::memcpy(behind + groups.size_bytes(), &scale, sizeof(scale));
}

void QuantizeInt4Row(const float* from, int64_t k, int group, Int4Pair* row) {
  float largest = 0;
  for (int64_t i = 0; i < k; ++i) largest = std::max(largest, std::abs(from[i]));
  // The largest element becomes about 2^10: steps of the other groups keep all bits of F16 down to
  // 2^-20 of this one's.
  int exponent = 0;
  std::frexp(largest, &exponent);
  const int shift = std::clamp(exponent - 10, -126, 127);
  const float scale = std::ldexp(1.0f, shift);
  std::vector<float> scaled(k);
  for (int64_t i = 0; i < k; ++i) scaled[i] = std::ldexp(from[i], -shift);
  std::vector<uint8_t> integers(k);
  std::vector<Int4Group> groups;
  for (int64_t begin = 0; begin < k; begin += group) {
    const auto x = std::span(scaled).subspan(begin, std::min<int64_t>(group, k - begin));
    const Fit fit = BestFit(x);
    const float inverse = fit.scale > 0 ? 1 / fit.scale : 0;
    for (size_t i = 0; i < x.size(); ++i) {
      integers[begin + i] = static_cast<uint8_t>(Rounded(x[i] * inverse + fit.zero));
    }
    groups.push_back({.scale = ToF16(fit.scale), .zero = static_cast<int16_t>(fit.zero)});
  }
  StoreInt4Row(integers, groups, scale, row);
}

template <typename T>
void WidenInt4Row(const TensorView& matrix, int64_t i, T* to) {
  const int64_t k = matrix.shape[1];
  const auto& [group, order] = *matrix.int4;
  const Int4Pair* const row = matrix.row<Int4Pair>(i);
  const Int4Group* const groups = Int4GroupsOf(row, k);
  const T scale = Int4Scale(row, k, group);
  for (int64_t j = 0; j < k; ++j) {
    const Int4Group& of = groups[j / group];
    const int integer = Integer(row, j) - of.zero;
    to[order.empty() ? j : order[j]] = scale * static_cast<T>(ToFloat(of.scale)) * integer;
  }
}

template void WidenInt4Row(const TensorView& matrix, int64_t i, float* to);
template void WidenInt4Row(const TensorView& matrix, int64_t i, double* to);

}  // namespace mea
