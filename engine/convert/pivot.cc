#include "engine/convert/pivot.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/check.h"

namespace mea::convert {
namespace {

constexpr double kLargestEntry = 1.05;  // of |W'|
// Each makes the determinant larger by kLargestEntry, so it takes a few times h' at the most.
constexpr int kMostSwaps = 10000;
// Share of the largest entry: elimination leaves less than this of a dependent row.
constexpr double kDependent = 1e-13;

// Gauss and Jordan's elimination of [W | I]: rows that have taken a head make [W' | W_S^-1].
class Elimination {
 public:
  explicit Elimination(const Matrix& mix)
      : components_(static_cast<int>(mix.rows)),
        heads_(static_cast<int>(mix.cols)),
        table_(mix.rows, mix.cols + mix.rows),
        head_of_(mix.rows, kNone) {
    for (int c = 0; c < components_; ++c) {
      std::copy(mix.row(c), mix.row(c) + heads_, table_.row(c));
      table_(c, heads_ + c) = 1;
    }
  }

  void Run() {
    const double tolerance = kDependent * std::abs(Largest(/*taken=*/false).value);
    TakeUnitColumns();
    for (int i = 0; i < components_; ++i) {
      const Entry pivot = Largest(/*taken=*/false);
      if (std::abs(pivot.value) <= tolerance) break;
      Take(pivot.row, pivot.head);
    }
    for (int i = 0; i < kMostSwaps; ++i) {
      const Entry pivot = Largest(/*taken=*/true);
      if (std::abs(pivot.value) <= kLargestEntry) break;
      Take(pivot.row, pivot.head);
    }
    GiveOutTheRest();
  }

  bool has_full_rank() const { return full_rank_; }
  const std::vector<int>& heads() const { return head_of_; }  // of the rows
  double entry(int row, int head) const { return table_(row, head); }

  // |W_S^-1|, the largest sum of a column.
  double InverseNorm() const {
    double norm = 0;
    for (int k = 0; k < components_; ++k) {
      double sum = 0;
      for (int c = 0; c < components_; ++c) sum += std::abs(table_(c, heads_ + k));
      norm = std::max(norm, sum);
    }
    return norm;
  }

 private:
  static constexpr int kNone = -1;
  struct Entry {
    int row = kNone;
    int head = kNone;
    double value = 0;
  };

  bool IsTaken(int head) const {
    return std::find(head_of_.begin(), head_of_.end(), head) != head_of_.end();
  }

  // Makes column `head` the unit vector of `row`.
  void Take(int row, int head) {
    double* const pivot_row = table_.row(row);
    const double pivot = pivot_row[head];
    for (int64_t x = 0; x < table_.cols; ++x) pivot_row[x] /= pivot;
    for (int c = 0; c < components_; ++c) {
      const double factor = table_(c, head);
      if (c == row || factor == 0) continue;
      for (int64_t x = 0; x < table_.cols; ++x) table_(c, x) -= factor * pivot_row[x];
      table_(c, head) = 0;
    }
    head_of_[row] = head;
  }

  void TakeUnitColumns() {
    for (int head = 0; head < heads_; ++head) {
      int row = kNone;
      bool is_unit = true;
      for (int c = 0; c < components_ && is_unit; ++c) {
        if (table_(c, head) == 0) continue;
        is_unit = row == kNone && table_(c, head) == 1;
        row = c;
      }
      if (is_unit && row != kNone && head_of_[row] == kNone) head_of_[row] = head;
    }
  }

  // The largest entry of rows that have taken a head, or of those that have not.
  Entry Largest(bool taken) const {
    Entry largest;
    for (int head = 0; head < heads_; ++head) {
      if (IsTaken(head)) continue;
      for (int c = 0; c < components_; ++c) {
        const bool counts = (head_of_[c] != kNone) == taken;
        if (counts && std::abs(table_(c, head)) > std::abs(largest.value)) {
          largest = {c, head, table_(c, head)};
        }
      }
    }
    return largest;
  }

  // Rows that no head uses, apart from rounding: they get heads that no other row has.
  void GiveOutTheRest() {
    for (int c = 0; c < components_; ++c) {
      if (head_of_[c] != kNone) continue;
      full_rank_ = false;
      int head = 0;
      while (IsTaken(head)) ++head;
      std::fill(table_.row(c), table_.row(c) + heads_, 0.0);
      for (int k = 0; k < components_; ++k) table_(k, head) = 0;
      table_(c, head) = 1;
      head_of_[c] = head;
    }
  }

  const int components_;
  const int heads_;
  Matrix table_;              // [h', h + h']
  std::vector<int> head_of_;  // [h']
  bool full_rank_ = true;
};

double NormOfColumns(const Matrix& mix, const std::vector<int>& heads) {
  double norm = 0;
  for (const int head : heads) {
    double sum = 0;
    for (int64_t c = 0; c < mix.rows; ++c) sum += std::abs(mix(c, head));
    norm = std::max(norm, sum);
  }
  return norm;
}

// Rows of component c: sum_k mix(k, heads[c]) times those of component k.
Matrix ComposeHeads(const Matrix& components, int head_dim, const Matrix& mix,
                    const std::vector<int>& heads) {
  if (components.empty()) return {};
  Matrix out(components.rows, components.cols);
  const int64_t size = head_dim * components.cols;
  for (int64_t c = 0; c < mix.rows; ++c) {
    double* const head = out.row(c * head_dim);
    for (int64_t k = 0; k < mix.rows; ++k) {
      const double factor = mix(k, heads[c]);
      if (factor == 0) continue;
      const double* const component = components.row(k * head_dim);
      for (int64_t i = 0; i < size; ++i) head[i] += factor * component[i];
    }
  }
  return out;
}

std::optional<MixForm> Bring(int head_dim, Matrix& projection, Matrix& bias, Matrix& mix) {
  if (mix.empty()) return std::nullopt;
  Pivots pivots = ChoosePivots(mix);
  projection = ComposeHeads(projection, head_dim, mix, pivots.heads);
  bias = ComposeHeads(bias, head_dim, mix, pivots.heads);
  mix = std::move(pivots.mix);
  return pivots.form;
}

}  // namespace

Pivots ChoosePivots(const Matrix& mix) {
  MEA_CHECK(mix.rows >= 1);
  MEA_CHECK(mix.rows <= mix.cols);
  Elimination elimination(mix);
  elimination.Run();
  // Components in the order of their heads.
  std::vector<int> rows(mix.rows);
  std::iota(rows.begin(), rows.end(), 0);
  const std::vector<int>& head_of = elimination.heads();
  std::sort(rows.begin(), rows.end(), [&](int a, int b) { return head_of[a] < head_of[b]; });
  Pivots out;
  out.mix = Matrix(mix.rows, mix.cols);
  for (const int row : rows) {
    const auto c = static_cast<int64_t>(out.heads.size());
    out.heads.push_back(head_of[row]);
    for (int64_t j = 0; j < mix.cols; ++j) {
      out.mix(c, j) = elimination.entry(row, static_cast<int>(j)) + 0.0;  // no -0
      out.form.largest_entry = std::max(out.form.largest_entry, std::abs(out.mix(c, j)));
    }
  }
  out.form.condition = elimination.has_full_rank()
                           ? NormOfColumns(mix, out.heads) * elimination.InverseNorm()
                           : std::numeric_limits<double>::infinity();
  return out;
}

LayerForm BringIntoPivotForm(int head_dim, LayerMatrices& w) {
  return {.keys = Bring(head_dim, w.k, w.k_bias, w.k_hlc),
          .values = Bring(head_dim, w.v, w.v_bias, w.v_hlc)};
}

}  // namespace mea::convert
