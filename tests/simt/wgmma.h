#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "tests/simt/block.h"

namespace mea::simt {

// The descriptor of an operand with the 128-byte swizzle, see kernels/cuda/device/wgmma.h.
uint64_t MatrixDescriptor(const void* shared, int leading_bytes, int stride_bytes,
                          const Where& where);

// One product: a warp's part of it, once its 32 lanes have issued it.
struct Product {
  int n = 0;
  bool a_in_registers = false;
  uint64_t a = 0;  // descriptor, unless in registers
  uint64_t b = 0;  // descriptor; MN-major when A is in registers
  bool accumulate = false;

  bool operator==(const Product&) const = default;
};

// wgmma: products under way. Their accumulators are poisoned until the WgmmaWait that covers them;
// the operands in shared memory are read when the product is issued or not before that wait: the
// dice decide for each. One unit per block.
class Wgmma : public Unit {
 public:
  static constexpr int kId = 3;

  explicit Wgmma(Block& block) : block_(block), warps_(kMaxWarps), groups_(kMaxWarps / 4) {
    block.RequireSm90("wgmma");
  }

  void Fence(const Where& where);
  // The running lane's part: d has product.n / 2 elements, a four registers or none.
  void Issue(const Product& product, float* d, const uint32_t* a, const Where& where);
  void Commit(const Where& where);
  void Wait(int pending_groups, const Where& where);

  void OnThreadExit() override;

 private:
  using ATile = std::array<std::array<float, 16>, 16>;  // [m][k], the warp's 16 rows
  struct Tiles {
    ATile a;
    std::vector<float> b;  // [k = 16][n]
  };
  struct InFlight {
    Product product;
    size_t accumulator;            // its id
    int group = -1;                // the commit it belongs to
    ATile a_registers;             // if a_in_registers
    std::unique_ptr<Tiles> early;  // operands, if read already
    Where where;
  };
  // The values behind poisoned registers.
  struct Accumulator {
    size_t id;
    int n;
    LaneArgs registers;         // each lane's float[n / 2]
    std::vector<float> values;  // [lane][n / 2]
    int num_in_flight = 0;
  };
  struct Warp {
    std::deque<InFlight> in_flight;
    std::vector<Accumulator> accumulators;
    size_t num_accumulators = 0;  // ever
    int64_t num_issued = 0;
    int num_commits = 0;
    bool fenced = false;
  };
  // What the four warps of a warpgroup must agree on.
  struct Group {
    std::vector<Product> products;
  };

  struct IssueArgs;
  struct WaitArgs;
  void IssueWarp(const LaneArgs& lanes, const Where& where);
  void CheckGroupAgrees(const Product& product, Warp& warp, const Where& where);
  Accumulator& Borrow(Warp& warp, const LaneArgs& registers, int n, const Where& where);
  void Return(Warp& warp, size_t id, const Where& where);
  Tiles ReadOperands(const InFlight& op) const;
  void CheckOperand(const std::byte* granule, const Where& where);
  template <class Visit>
  void VisitGranules(const InFlight& op, Visit visit) const;
  int64_t NeededProducts(const Warp& warp, int pending_groups) const;
  bool GroupHasIssued(int64_t num_products) const;
  void Finish(Warp& warp, int pending_groups, const Where& where);
  void Run(const InFlight& op, Accumulator& accumulator) const;

  Warp& MyWarp() { return warps_[static_cast<size_t>(block_.warp())]; }
  Group& MyGroup() { return groups_[static_cast<size_t>(block_.warp() / 4)]; }

  Block& block_;
  std::vector<Warp> warps_;
  std::vector<Group> groups_;
};

}  // namespace mea::simt
