#pragma once

#include <cstdint>
#include <vector>

#include "engine/convert/matrix.h"

namespace mea::convert {

// The two problems of a conversion, without models and files: replace the h key heads W_j of a
// layer by mixes of h' component heads, likewise the value heads. d = head_dim, F = d/2 frequencies
// of RoPE; rows f and f + F of a head are one complex row w_jf, which RoPE only rotates. A bias is
// one more column of W_j with the input 1, so nothing below mentions biases.
//
// Only inner products of the heads matter, in the metric of the projection's input (G_jk = W_j C
// W_k^T), and optimal components are combinations of the heads themselves. So problems and
// solutions are in coefficients, and their size does not depend on the hidden size.

// What may multiply a key head at one frequency without changing a logit, because the queries of
// its group absorb it. See README.md, "What is free".
enum class KeyFreedom : uint8_t {
  kComplex,   // any complex number: no norm between projection and RoPE
  kRotation,  // modulus 1: QK-norm whose gains are equal within the pair
  kSign,      // 1 or -1: QK-norm
};

struct KeyProblem {
  int heads = 0;                    // h
  int head_dim = 0;                 // d
  std::vector<ComplexMatrix> gram;  // [F] of [h, h]: E[k_jf conj(k_kf)]
  Matrix weight;                    // [h, F] what an error of k_jf costs: E|q_f|^2 of its queries
  std::vector<KeyFreedom> freedom;  // [F]
  int num_frequencies() const { return head_dim / 2; }
};

// K_jf ~ rotation(j, f) * sum_c mix(c, j) K_cf, where K_cf = sum_k combine[f](c, k) w_kf.
struct KeyComposition {
  Matrix mix;                          // [h', h] W_lc^K
  std::vector<ComplexMatrix> combine;  // [F] of [h', h]
  ComplexMatrix rotation;              // [h, F]; empty: all 1
  int components() const { return static_cast<int>(mix.rows); }
};

struct ValueProblem {
  int heads = 0;
  int head_dim = 0;
  Matrix gram;                      // [h*d, h*d]: E[v v^T] of all heads side by side
  std::vector<Matrix> output_gram;  // [h] of [d, d]: of an error, sum O_i^T O_i
};

// V_j ~ basis[j] * sum_c mix(c, j) V_c, where V_c = rows [c*d, c*d + d) of combine * V.
struct ValueComposition {
  Matrix mix;                 // [h', h] W_lc^V
  Matrix combine;             // [h'*d, h*d]
  std::vector<Matrix> basis;  // [h] of [d, d], absorbed by o_proj; empty: all identity
  int components() const { return static_cast<int>(mix.rows); }
};

// The error of a composition as a share of the whole (0..1, more for a bad one): of sum weight
// |k|^2, and of the energy of the values after o_proj.
double KeyError(const KeyProblem& problem, const KeyComposition& composition);
double ValueError(const ValueProblem& problem, const ValueComposition& composition);

// The best h' components without any free change: the singular vectors of the heads as columns
// (MEA, arXiv 2601.19611, appendix F) in the problem's metric, with components scaled to the size
// of the heads. Ignores `weight` and `output_gram`.
KeyComposition ComposeKeysBySvd(const KeyProblem& problem, int components);
ValueComposition ComposeValuesBySvd(const ValueProblem& problem, int components);

struct AlignOptions {
  int max_sweeps = 300;
  double tolerance = 1e-5;  // stop when ten sweeps together gain less than this share of the error
  uint64_t seed = 1;        // of the random starts
};

// Alternating least squares over components, mixes and the free changes, from several starts; never
// worse than ComposeBySvd, which is one of them. `trace`, if given, gets the error after each sweep
// of the winning run: it never rises.
KeyComposition AlignKeys(const KeyProblem& problem, int components,
                         const AlignOptions& options = {}, std::vector<double>* trace = nullptr);
ValueComposition AlignValues(const ValueProblem& problem, int components,
                             const AlignOptions& options = {},
                             std::vector<double>* trace = nullptr);

}  // namespace mea::convert
