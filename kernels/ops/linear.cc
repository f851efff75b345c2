#include "kernels/ops/linear.h"

#include "kernels/int4_rows.h"
#include "kernels/ops/operands.h"

namespace mea {

void Check(const MatMulArgs& args, ActivationDTypes dtypes) {
  const TensorView& x = args.x;
  MEA_CHECK(x.rank == 2 && x.dtype == dtypes.compute && HasShape(x, {x.shape[0], x.shape[1]}));
  for (const auto& [w, bias, out] : args.projections) {
    MEA_CHECK(IsMatrixStorage(w.dtype));
    MEA_CHECK(w.rank == 2 && HasShape(w, {w.shape[0], x.shape[1]}));
    CheckParameter(bias, {w.shape[0]});
    MEA_CHECK(HasShape(out, {x.shape[0], w.shape[0]}));
    MEA_CHECK(out.dtype == dtypes.compute || out.dtype == dtypes.wide);
  }
}
OpCost Cost(const MatMulArgs& args, ActivationDTypes dtypes) {
  int64_t out = 0;
  for (const Projection& projection : args.projections) out += projection.w.shape[0];
  return MatMulCost(args.x.shape[0], args.x.shape[1], out, args.projections[0].w.dtype,
                    dtypes.compute);
}

void Check(const MoeArgs& args, ActivationDTypes dtypes) {
  const int64_t num_tokens = args.x.shape[0];
  const int64_t hidden = args.x.shape[1];
  const int64_t num_experts = std::ssize(args.experts);
  MEA_CHECK(args.x.rank == 2 && HasShape(args.x, {num_tokens, hidden}));
  MEA_CHECK(args.x.dtype == dtypes.compute);
  MEA_CHECK(HasShape(args.router, {num_experts, hidden}) && IsMatrixStorage(args.router.dtype));
  MEA_CHECK(args.top_k >= 1 && args.top_k <= num_experts);
  const int64_t ffn = args.experts[0].gate.shape[0];
  for (const Expert& expert : args.experts) {
    MEA_CHECK(HasShape(expert.gate, {ffn, hidden}) && HasShape(expert.up, {ffn, hidden}));
    MEA_CHECK(HasShape(expert.down, {hidden, ffn}));
    for (const TensorView& w : {expert.gate, expert.up, expert.down}) {
      MEA_CHECK(IsMatrixStorage(w.dtype));
      // Rows may be prepared for all experts alike.
      MEA_CHECK((w.dtype == DType::kI8) == (args.experts[0].gate.dtype == DType::kI8));
      MEA_CHECK((w.dtype == DType::kI4) == (args.experts[0].gate.dtype == DType::kI4));
      MEA_CHECK(w.int4 == nullptr || w.int4->order.empty());
    }
  }
  MEA_CHECK(HasShape(args.inner, {num_tokens * args.top_k, ffn}));
  MEA_CHECK(HasShape(args.rows, {num_tokens * args.top_k, hidden}));
  MEA_CHECK(args.inner.dtype == dtypes.compute && args.rows.dtype == dtypes.compute);
  MEA_CHECK(HasShape(args.out, {num_tokens, hidden}) && args.out.dtype == dtypes.compute);
}
OpCost Cost(const MoeArgs& args, ActivationDTypes dtypes) {
  const MoeShape shape = {.num_experts = static_cast<int>(args.experts.size()),
                          .top_k = args.top_k,
                          .ffn_size = static_cast<int>(args.experts[0].gate.shape[0])};
  const int64_t n = args.x.shape[0];
  return MoeCost(n, args.x.shape[1], shape, ExpectedExperts(shape, n), args.router.dtype,
                 dtypes.compute);
}

}  // namespace mea
