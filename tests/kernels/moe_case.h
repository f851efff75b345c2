#pragma once

#include <cmath>
#include <vector>

#include "tests/kernels/op_support.h"

namespace mea {

// A random mixture of experts and rows for it.
struct MoeCase {
  int64_t num_tokens = 1;
  int64_t hidden = 32;
  int64_t ffn = 16;
  int num_experts = 4;
  int top_k = 2;
  bool renormalise = true;
  DType weights = DType::kF32;
  DType router = DType::kF32;
  DType inputs = DType::kF32;
  uint64_t seed = 1;
};

class MoeData {
 public:
  explicit MoeData(const MoeCase& c)
      : c_(c),
        x_(Random({c.num_tokens, c.hidden}, c.inputs, c.seed)),
        router_(Random({c.num_experts, c.hidden}, c.router, c.seed + 1, Scale(c.hidden, 2.0))) {
    for (int e = 0; e < c.num_experts; ++e) {
      const uint64_t seed = c.seed + 10 + 3 * e;
      for (int i = 0; i < 2; ++i) {
        matrices_.push_back(Random({c.ffn, c.hidden}, c.weights, seed + i, Scale(c.hidden, 1.0)));
      }
      matrices_.push_back(Random({c.hidden, c.ffn}, c.weights, seed + 2, Scale(c.ffn, 1.0)));
      experts_.push_back({.gate = matrices_[3 * e].view(),
                          .up = matrices_[3 * e + 1].view(),
                          .down = matrices_[3 * e + 2].view()});
    }
  }

  const Tensor& x() const { return x_; }
  const Tensor& router() const { return router_; }

  // What a back end makes of rows [first, first + count) in its compute dtype.
  Tensor Run(Backend& backend, int64_t first, int64_t count) const {
    const DType compute = backend.compute_dtype();
    const Tensor x = Convert(x_, compute);
    const int64_t num_rows = count * c_.top_k;
    const Tensor inner = Poisoned({num_rows, c_.ffn}, compute);
    const Tensor rows = Poisoned({num_rows, c_.hidden}, compute);
    Tensor out = Poisoned({count, c_.hidden}, compute);
    backend.Moe({.x = x.view().Rows(first, count),
                 .router = router_.view(),
                 .experts = experts_,
                 .top_k = c_.top_k,
                 .renormalise = c_.renormalise,
                 .inner = inner.view(),
                 .rows = rows.view(),
                 .out = out.view()});
    return out;
  }
  Tensor Run(Backend& backend) const { return Run(backend, 0, c_.num_tokens); }

 private:
  static double Scale(int64_t in, double size) { return size / std::sqrt(static_cast<double>(in)); }

  MoeCase c_;
  Tensor x_;
  Tensor router_;
  std::vector<Tensor> matrices_;
  std::vector<Expert> experts_;
};

}  // namespace mea
