#pragma once

#include <cstddef>
#include <vector>

#include "tests/simt/block.h"

namespace mea::simt {

// Shared memory as the asynchronous proxy (wgmma) sees it: what bulk copies wrote, and what
// ordinary stores wrote before the last FenceProxyAsync of any thread. Finds operands nobody
// fenced; an unfenced store that another thread's fence follows goes unnoticed.
class AsyncView : public Unit {
 public:
  static constexpr int kId = 2;

  explicit AsyncView(Block& block);

  // Bulk copies and their poison.
  void Written(const std::byte* shared, int bytes);
  void Fence() { fenced_ = true; }
  // Whether the proxy sees these bytes as they are.
  bool Sees(const std::byte* shared, int bytes);

 private:
  Block& block_;
  std::vector<std::byte> seen_;
  bool fenced_ = false;  // since seen_ was last brought up to date
};

}  // namespace mea::simt
