#include "engine/convert/eigen.h"
#include "engine/convert/layer_weights.h"

namespace mea::convert {
namespace {

using Eigen::Index;

// Row f of a head and row f + d/2 as one complex row.
Eigen::RowVectorXcd Pair(const Matrix& m, int64_t first_row, int f, int head_dim) {
  const auto rows = AsEigen(m);
  Eigen::RowVectorXcd pair(m.cols);
  pair.real() = rows.row(first_row + f);
  pair.imag() = rows.row(first_row + f + head_dim / 2);
  return pair;
}

void SetPair(const Eigen::RowVectorXcd& pair, int64_t first_row, int f, int head_dim, Matrix& m) {
  auto rows = AsEigen(m);
  rows.row(first_row + f) = pair.real();
  rows.row(first_row + f + head_dim / 2) = pair.imag();
}

// out_c = sum_j coefficients[f](c, j) in_j at each frequency.
Matrix CombinePairs(const Matrix& in, int head_dim,
                    const std::vector<ComplexMatrix>& coefficients) {
  if (in.empty()) return {};
  Matrix out(coefficients[0].rows * head_dim, in.cols);
  for (int f = 0; f < head_dim / 2; ++f) {
    const ComplexMatrix& matrix = coefficients[f];
    RowMajor<Complex> pairs(matrix.cols, in.cols);
    for (int64_t j = 0; j < matrix.cols; ++j) pairs.row(j) = Pair(in, j * head_dim, f, head_dim);
    const RowMajor<Complex> combined = AsEigen(matrix) * pairs;
    for (int64_t c = 0; c < matrix.rows; ++c) {
      SetPair(combined.row(c), c * head_dim, f, head_dim, out);
    }
  }
  return out;
}

// q_i <- conj(rotation of its key head) q_i, since Re(conj(q) a k) = Re(conj(conj(a) q) k).
Matrix RotateQueries(const Matrix& q, int head_dim, const ComplexMatrix& rotation) {
  if (q.empty() || rotation.empty()) return q;
  Matrix out(q.rows, q.cols);
  const int64_t q_heads = q.rows / head_dim;
  const int64_t group = q_heads / rotation.rows;
  for (int64_t i = 0; i < q_heads; ++i) {
    for (int f = 0; f < head_dim / 2; ++f) {
      const Complex factor = std::conj(rotation(i / group, f));
      SetPair(factor * Pair(q, i * head_dim, f, head_dim), i * head_dim, f, head_dim, out);
    }
  }
  return out;
}

// out_c = rows of c of combine * in.
Matrix CombineRows(const Matrix& in, const Matrix& combine) {
  if (in.empty()) return {};
  return FromEigen((AsEigen(combine) * AsEigen(in)).eval());
}

Matrix AbsorbBases(const Matrix& o, int head_dim, const std::vector<Matrix>& bases) {
  if (bases.empty()) return o;
  Matrix out(o.rows, o.cols);
  const int64_t q_heads = o.cols / head_dim;
  const int64_t group = q_heads / std::ssize(bases);
  for (int64_t i = 0; i < q_heads; ++i) {
    AsEigen(out).middleCols(i * head_dim, head_dim) =
        AsEigen(o).middleCols(i * head_dim, head_dim) * AsEigen(bases[i / group]);
  }
  return out;
}

}  // namespace

LayerMatrices Compose(const LayerMatrices& plain, int head_dim, const KeyComposition* keys,
                      const ValueComposition* values) {
  LayerMatrices out = plain;
  if (keys != nullptr) {
    out.k = CombinePairs(plain.k, head_dim, keys->combine);
    out.k_bias = CombinePairs(plain.k_bias, head_dim, keys->combine);
    out.k_hlc = keys->mix;
    out.q = RotateQueries(plain.q, head_dim, keys->rotation);
    out.q_bias = RotateQueries(plain.q_bias, head_dim, keys->rotation);
  }
  if (values != nullptr) {
    out.v = CombineRows(plain.v, values->combine);
    out.v_bias = CombineRows(plain.v_bias, values->combine);
    out.v_hlc = values->mix;
    out.o = AbsorbBases(plain.o, head_dim, values->basis);
  }
  return out;
}

Matrix ExpandKeys(const Matrix& k, int head_dim, const KeyComposition& keys) {
  std::vector<ComplexMatrix> heads;
  for (size_t f = 0; f < keys.combine.size(); ++f) {
    RowMajor<Complex> head =
        AsEigen(keys.mix).transpose().cast<Complex>() * AsEigen(keys.combine[f]);
    if (!keys.rotation.empty()) {
      head = (AsEigen(keys.rotation).col(static_cast<Index>(f)).asDiagonal() * head).eval();
    }
    heads.push_back(FromEigen(head));
  }
  return CombinePairs(k, head_dim, heads);
}

Matrix ExpandValues(const Matrix& v, int head_dim, const ValueComposition& values) {
  if (v.empty()) return {};
  const Matrix components = CombineRows(v, values.combine);
  Matrix out(v.rows, v.cols);
  for (int64_t j = 0; j < values.mix.cols; ++j) {
    RowMajor<double> head = RowMajor<double>::Zero(head_dim, v.cols);
    for (int c = 0; c < values.components(); ++c) {
      head += values.mix(c, j) * AsEigen(components).middleRows(c * head_dim, head_dim);
    }
    if (!values.basis.empty()) head = (AsEigen(values.basis[j]) * head).eval();
    AsEigen(out).middleRows(j * head_dim, head_dim) = head;
  }
  return out;
}

}  // namespace mea::convert
