#include "kernels/ops/rowwise.h"

#include "kernels/ops/operands.h"

namespace mea {
namespace {

// Of out = f(gate) * up.
void CheckGate(TensorView gate, TensorView up, TensorView out, ActivationDTypes dtypes) {
  MEA_CHECK(gate.rank == 2 && gate.dtype == dtypes.compute && up.dtype == dtypes.compute);
  MEA_CHECK(HasShape(up, {gate.shape[0], gate.shape[1]}));
  MEA_CHECK(HasShape(out, {gate.shape[0], gate.shape[1]}) && out.dtype == dtypes.compute);
}

}  // namespace

void Check(const EmbedArgs& args, ActivationDTypes dtypes) {
  const auto& [table, ids, scale, out] = args;
  MEA_CHECK(table.rank == 2 && IsMatrixStorage(table.dtype));
  CheckIndices(ids, ids.shape[0]);
  MEA_CHECK(HasShape(out, {ids.shape[0], table.shape[1]}) && out.dtype == dtypes.wide);
}
OpCost Cost(const EmbedArgs& args, ActivationDTypes dtypes) {
  return EmbedCost(args.ids.shape[0], args.table.shape[1], args.table.dtype, dtypes.wide);
}

void Check(const RmsNormArgs& args, ActivationDTypes dtypes) {
  const auto& [x, gain, eps, out] = args;
  MEA_CHECK(x.rank == 2 && x.dtype == dtypes.wide);
  CheckParameter(gain, {x.shape[1]});
  MEA_CHECK(HasShape(out, {x.shape[0], x.shape[1]}) && out.dtype == dtypes.compute);
}
OpCost Cost(const RmsNormArgs& args, ActivationDTypes dtypes) {
  const int num_norms = args.gain.empty() ? 0 : 1;
  return RmsNormCost(args.x.shape[0], args.x.shape[1], num_norms, dtypes.compute);
}

void Check(const AddRmsNormArgs& args, ActivationDTypes dtypes) {
  const auto& [delta, delta_gain, delta_scale, residual, gain, eps, out] = args;
  Check(RmsNormArgs{.x = residual, .gain = gain, .eps = eps, .out = out}, dtypes);
  MEA_CHECK(HasShape(delta, {residual.shape[0], residual.shape[1]}));
  MEA_CHECK(delta.dtype == dtypes.compute);
  CheckParameter(delta_gain, {delta.shape[1]});
}
OpCost Cost(const AddRmsNormArgs& args, ActivationDTypes dtypes) {
  const int num_norms = (args.delta_gain.empty() ? 0 : 1) + (args.gain.empty() ? 0 : 1);
  return AddRmsNormCost(args.delta.shape[0], args.delta.shape[1], num_norms, dtypes.compute);
}

void Check(const NormRowsArgs& args, ActivationDTypes dtypes) {
  const auto& [x, gain, eps, out] = args;
  MEA_CHECK(x.rank == 2 && x.dtype == dtypes.compute);
  MEA_CHECK(HasShape(x, {x.shape[0], x.shape[1]}) && !gain.empty());
  CheckParameter(gain, {x.shape[1]});
  MEA_CHECK(HasShape(out, {x.shape[0], x.shape[1]}) && out.dtype == dtypes.compute);
}
OpCost Cost(const NormRowsArgs& args, ActivationDTypes dtypes) {
  return RmsNormCost(args.x.shape[0], args.x.shape[1], 1, dtypes.compute);
}

void Check(const GatedActivationArgs& args, ActivationDTypes dtypes) {
  CheckGate(args.gate, args.up, args.out, dtypes);
}
OpCost Cost(const GatedActivationArgs& args, ActivationDTypes dtypes) {
  OpCost cost = GatedActivationCost(args.gate.shape[0], args.gate.shape[1], dtypes.compute);
  // A square, a multiply-add and a product before the sigmoid.
  if (args.activation == Activation::kGeluTanh) cost.flops += 4 * args.gate.num_elements();
  return cost;
}

void Check(const SigmoidGateArgs& args, ActivationDTypes dtypes) {
  CheckGate(args.gate, args.up, args.out, dtypes);
}
OpCost Cost(const SigmoidGateArgs& args, ActivationDTypes dtypes) {
  return SigmoidGateCost(args.gate.shape[0], args.gate.shape[1], dtypes.compute);
}

void Check(const MixHeadsArgs& args, ActivationDTypes dtypes) {
  const auto& [x, mix, out] = args;
  MEA_CHECK(x.dtype == dtypes.compute && out.dtype == dtypes.compute && !mix.empty());
  MEA_CHECK(HasShape(x, {x.shape[0], x.shape[1], x.shape[2]}));
  MEA_CHECK(HasShape(out, {x.shape[0], out.shape[1], x.shape[2]}));
  CheckParameter(mix, {x.shape[1], out.shape[1]});
}
OpCost Cost(const MixHeadsArgs& args, ActivationDTypes dtypes) {
  return MixHeadsCost(args.x.shape[0], args.mix.shape[0], args.mix.shape[1], args.x.shape[2],
                      dtypes.compute);
}

void Check(const GatherRowsArgs& args, ActivationDTypes dtypes) {
  const auto& [x, rows, out] = args;
  MEA_CHECK(x.rank == 2 && x.dtype == dtypes.compute);
  CheckIndices(rows, rows.shape[0]);
  MEA_CHECK(HasShape(out, {rows.shape[0], x.shape[1]}) && out.dtype == dtypes.compute);
}
// Small compared with any other op.
OpCost Cost(const GatherRowsArgs& /*args*/, ActivationDTypes /*dtypes*/) { return {}; }

void Check(const CopyArgs& args, ActivationDTypes /*dtypes*/) {
  const auto& [from, to] = args;
  MEA_CHECK(from.rank == to.rank && from.shape == to.shape && from.dtype == to.dtype);
  MEA_CHECK(from.rank == 2 || (from.is_dense() && to.is_dense()));
}
// Moves inputs and results only, so it is not part of the least work of a step.
OpCost Cost(const CopyArgs& /*args*/, ActivationDTypes /*dtypes*/) { return {}; }

void Check(const ReceiveArgs& args, ActivationDTypes /*dtypes*/) {
  const auto& [sender, from, to] = args;
  MEA_CHECK(sender != nullptr && from.device == to.device);
  MEA_CHECK(from.rank == to.rank && from.shape == to.shape && from.dtype == to.dtype);
  MEA_CHECK(from.is_dense() && to.is_dense());
}
// Small: rows of the residual, once a device.
OpCost Cost(const ReceiveArgs& /*args*/, ActivationDTypes /*dtypes*/) { return {}; }

}  // namespace mea
