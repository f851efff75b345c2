#include "kernels/reference/moe.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/reference/elements.h"

namespace mea::reference {
namespace {

using Row = std::vector<double>;

// w x
Row Product(const TensorView& w, const Row& x) {
  Row y(w.shape[0], 0.0);
  for (int64_t o = 0; o < w.shape[0]; ++o) {
    const Row weights = LoadRow(w, Offset(w, o), w.shape[1]);
    for (size_t i = 0; i < x.size(); ++i) y[o] += weights[i] * x[i];
  }
  return y;
}

// The experts of the largest logits, in the order of their indices.
std::vector<int> ChosenExperts(const Row& logits, int top_k) {
  std::vector<int> experts(logits.size());
  std::iota(experts.begin(), experts.end(), 0);
  std::stable_sort(experts.begin(), experts.end(), [&](int a, int b) {
    return !std::isnan(logits[a]) && (std::isnan(logits[b]) || logits[a] > logits[b]);
  });
  experts.resize(top_k);
  std::sort(experts.begin(), experts.end());
  return experts;
}

// Their weights.
Row Gates(const Row& logits, const std::vector<int>& chosen, bool renormalise) {
  double max = -std::numeric_limits<double>::infinity();
  for (const int e : chosen) max = std::fmax(max, logits[e]);
  Row gates;
  for (const int e : chosen) gates.push_back(std::exp(logits[e] - max));
  double sum = 0;
  if (renormalise) {
    for (const double gate : gates) sum += gate;
  } else {
    for (const double logit : logits) sum += std::exp(logit - max);
  }
  for (double& gate : gates) gate /= sum;
  return gates;
}

Row Apply(const Expert& expert, const Row& x) {
  Row inner = Product(expert.gate, x);
  const Row up = Product(expert.up, x);
  for (size_t i = 0; i < inner.size(); ++i) inner[i] *= up[i] / (1.0 + std::exp(-inner[i]));
  return Product(expert.down, inner);
}

}  // namespace

void Moe(const MoeArgs& args) {
  const int64_t hidden = args.x.shape[1];
  for (int64_t t = 0; t < args.x.shape[0]; ++t) {
    const Row x = LoadRow(args.x, Offset(args.x, t), hidden);
    const Row logits = Product(args.router, x);
    const std::vector<int> chosen = ChosenExperts(logits, args.top_k);
    const Row gates = Gates(logits, chosen, args.renormalise);
    Row out(hidden, 0.0);
    for (size_t j = 0; j < chosen.size(); ++j) {
      const Row y = Apply(args.experts[chosen[j]], x);
      for (int64_t i = 0; i < hidden; ++i) out[i] += gates[j] * y[i];
    }
    for (int64_t i = 0; i < hidden; ++i) Store(args.out, Offset(args.out, t) + i, out[i]);
  }
}

}  // namespace mea::reference
