#include "engine/bench/op_meter.h"

#include "absl/strings/str_cat.h"
#include "engine/bench/timing.h"

namespace mea {
namespace {

std::string KindOf(const OpCall& call) {
  std::string kind(call.name);
  if (const auto* product = call.As<MatMulArgs>()) {
    int64_t out = 0;
    for (const Projection& projection : product->projections) out += projection.w.shape[0];
    absl::StrAppend(&kind, " ", out, "x", product->x.shape[1]);
  }
  return kind;
}

}  // namespace

void OpMeter::OnOp(const OpCall& call, absl::FunctionRef<void()> run) {
  const double seconds = SecondsOf(run);
  Total& total = totals_[KindOf(call)];
  ++total.calls;
  total.seconds += seconds;
  total.cost += std::visit([&](const auto* args) { return Cost(*args, call.dtypes); }, call.args);
}

}  // namespace mea
