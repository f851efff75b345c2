#pragma once

#include <map>
#include <string>

#include "kernels/op_observer.h"

namespace mea {

// Times every op of a back end of the host and adds up what the op costs at least (kernels/cost),
// by kind: "MatMul 2304x768" is apart from "MatMul 768x768" (out x in).
class OpMeter final : public OpObserver {
 public:
  struct Total {
    int64_t calls = 0;
    double seconds = 0;
    OpCost cost;
  };

  const std::map<std::string, Total>& totals() const { return totals_; }
  void Reset() { totals_.clear(); }

  void OnOp(const OpCall& call, absl::FunctionRef<void()> run) override;

 private:
  std::map<std::string, Total> totals_;
};

}  // namespace mea
