#include "tests/simt/wgmma.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>

#include "tests/simt/async_view.h"
#include "tests/simt/collectives.h"
#include "tests/simt/tensor_core.h"

namespace mea::simt {
namespace {

constexpr int kK = 16;
constexpr int kGranule = 16;  // bytes
constexpr uint32_t kPoison = ~0u;

struct OperandLayout {
  uint32_t start, leading, stride;  // bytes
};

OperandLayout Decode(uint64_t descriptor) {
  const auto field = [&](int shift) {
    return static_cast<uint32_t>(descriptor >> shift & 0x3fff) << 4;
  };
  return {field(0), field(16), field(32)};
}

// The 128-byte swizzle exchanges granules within a row by bits 7 to 9 of the address.
uint32_t Swizzle(uint32_t address) { return address ^ ((address >> 7 & 7) << 4); }

// Addresses of the 16-byte granule that holds elements [8 * granule, +8) of a row of eight-row
// groups: K-major rows are M or N and granules run along K, MN-major rows are K.
uint32_t KMajorGranule(const OperandLayout& l, int row, int granule) {
  return Swizzle(l.start + static_cast<uint32_t>(row / 8) * l.stride +
                 static_cast<uint32_t>(row % 8 * 128 + granule * kGranule));
}
uint32_t MnMajorGranule(const OperandLayout& l, int row, int granule) {
  return Swizzle(l.start + static_cast<uint32_t>(granule / 8) * l.leading +
                 static_cast<uint32_t>(row / 8) * l.stride +
                 static_cast<uint32_t>(row % 8 * 128 + granule % 8 * kGranule));
}

float ElementOf(const std::byte* granule, int i) {
  uint16_t bits;
  std::memcpy(&bits, granule + 2 * i, 2);
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

bool AllPoison(const float* values, int count) {
  return std::all_of(values, values + count,
                     [](const float& v) { return std::bit_cast<uint32_t>(v) == kPoison; });
}

}  // namespace

uint64_t MatrixDescriptor(const void* shared, int leading_bytes, int stride_bytes,
                          const Where& where) {
  CheckShared("Descriptor", shared, kGranule, where);
  constexpr int kLimit = 1 << 18;
  for (const int bytes : {leading_bytes, stride_bytes}) {
    if (bytes < 0 || bytes >= kLimit || bytes % kGranule != 0) {
      Block::Current().Fail("Descriptor: a stride of " + std::to_string(bytes) + " bytes", where);
    }
  }
  return static_cast<uint64_t>(Block::Current().shared().Address(shared) >> 4) |
         static_cast<uint64_t>(leading_bytes >> 4) << 16 |
         static_cast<uint64_t>(stride_bytes >> 4) << 32 | uint64_t{1} << 62;
}

void Wgmma::Fence(const Where& where) {
  block_.Meet("WgmmaFence", where, nullptr,
              [](Block& block, const LaneArgs&) { block.Get<Wgmma>().MyWarp().fenced = true; });
}

struct Wgmma::IssueArgs {
  const Product* product;
  float* d;
  const uint32_t* a;
  const Where* where;
};

void Wgmma::Issue(const Product& product, float* d, const uint32_t* a, const Where& where) {
  IssueArgs args{&product, d, a, &where};
  block_.Meet(product.a_in_registers ? "WgmmaRS64" : "WgmmaSS64", where, &args,
              [](Block& block, const LaneArgs& lanes) {
                block.Get<Wgmma>().IssueWarp(lanes,
                                             *static_cast<const IssueArgs*>(lanes[0])->where);
              });
}

void Wgmma::IssueWarp(const LaneArgs& lanes, const Where& where) {
  const auto lane = [&](int i) -> const IssueArgs& {
    return *static_cast<const IssueArgs*>(lanes[static_cast<size_t>(i)]);
  };
  const Product& product = *lane(0).product;
  Warp& warp = MyWarp();
  LaneArgs registers;
  InFlight op{.product = product, .where = where};
  for (int i = 0; i < kWarpSize; ++i) {
    if (*lane(i).product != product) block_.Fail("wgmma: lanes name different operands", where);
    registers[static_cast<size_t>(i)] = lane(i).d;
    if (!product.a_in_registers) continue;
    for (int j = 0; j < 4; ++j) {
      auto& row = op.a_registers[static_cast<size_t>(i / 4 + 8 * (j % 2))];
      const auto k = static_cast<size_t>(2 * (i % 4) + 8 * (j / 2));
      row[k] = std::bit_cast<float>(lane(i).a[j] << 16);
      row[k + 1] = std::bit_cast<float>(lane(i).a[j] & 0xffff0000u);
    }
  }
  CheckGroupAgrees(product, warp, where);
  VisitGranules(op,
                [&](const std::byte* granule, int, int, bool) { CheckOperand(granule, where); });

  Accumulator& accumulator = Borrow(warp, registers, product.n, where);
  ++accumulator.num_in_flight;
  op.accumulator = accumulator.id;
  if (block_.random().Below(2) == 0) op.early = std::make_unique<Tiles>(ReadOperands(op));
  warp.in_flight.push_back(std::move(op));
}

void Wgmma::CheckGroupAgrees(const Product& product, Warp& warp, const Where& where) {
  if ((block_.warp() / 4 + 1) * 4 * kWarpSize > block_.num_threads()) {
    block_.Fail("wgmma: the block has no whole warpgroup here", where);
  }
  std::vector<Product>& products = MyGroup().products;
  const auto index = static_cast<size_t>(warp.num_issued++);
  if (index == products.size()) {
    products.push_back(product);
  } else if (products[index] != product) {
    block_.Fail("wgmma: the warps of the warpgroup issue different products", where);
  }
  block_.Wake(&MyGroup());
}

// The accumulator with those registers; if it is not under way yet, its values are put aside.
Wgmma::Accumulator& Wgmma::Borrow(Warp& warp, const LaneArgs& registers, int n,
                                  const Where& where) {
  for (Accumulator& a : warp.accumulators) {
    if (a.registers != registers) continue;
    if (a.n != n) block_.Fail("wgmma: one accumulator in products of different shapes", where);
    for (const void* lane : registers) {
      if (!AllPoison(static_cast<const float*>(lane), n / 2)) {
        block_.Fail("wgmma: an accumulator was written before its WgmmaWait", where);
      }
    }
    return a;
  }
  if (!warp.fenced) {
    block_.Fail("wgmma: no WgmmaFence since the threads could last touch the accumulator", where);
  }
  Accumulator& a = warp.accumulators.emplace_back();
  a = {.id = warp.num_accumulators++, .n = n, .registers = registers, .values = {}};
  for (void* lane : registers) {
    auto* d = static_cast<float*>(lane);
    a.values.insert(a.values.end(), d, d + n / 2);
    std::memset(lane, 0xff, static_cast<size_t>(n / 2) * sizeof(float));
  }
  return a;
}

void Wgmma::Return(Warp& warp, size_t id, const Where& where) {
  const auto a = std::find_if(warp.accumulators.begin(), warp.accumulators.end(),
                              [&](const Accumulator& other) { return other.id == id; });
  if (--a->num_in_flight > 0) return;
  const auto size = static_cast<size_t>(a->n / 2);
  for (size_t i = 0; i < kWarpSize; ++i) {
    auto* d = static_cast<float*>(a->registers[i]);
    if (!AllPoison(d, a->n / 2)) {
      block_.Fail("wgmma: an accumulator was written before its WgmmaWait", where);
    }
    std::memcpy(d, a->values.data() + i * size, size * sizeof(float));
  }
  warp.accumulators.erase(a);
}

// Calls visit(address, row, granule, is_a) for the granules in shared memory of this warp's part.
template <class Visit>
void Wgmma::VisitGranules(const InFlight& op, Visit visit) const {
  const auto at = [&](uint32_t address) -> const std::byte* {
    const std::byte* granule = block_.shared().At(address);
    CheckShared("an operand of wgmma", granule, kGranule, op.where);
    return granule;
  };
  const auto check_start = [&](const OperandLayout& l) {
    if ((l.start >> 7 & 7) != 0) {
      block_.Fail("wgmma: the operand does not start in the first of eight swizzled rows",
                  op.where);
    }
  };
  if (!op.product.a_in_registers) {
    const OperandLayout a = Decode(op.product.a);
    check_start(a);
    const int row0 = block_.warp() % 4 * 16;
    for (int row = 0; row < 16; ++row) {
      for (int g = 0; g < 2; ++g) visit(at(KMajorGranule(a, row0 + row, g)), row, g, true);
    }
  }
  const OperandLayout b = Decode(op.product.b);
  check_start(b);
  if (op.product.a_in_registers) {
    for (int k = 0; k < kK; ++k) {
      for (int g = 0; g < op.product.n / 8; ++g) visit(at(MnMajorGranule(b, k, g)), k, g, false);
    }
  } else {
    for (int row = 0; row < op.product.n; ++row) {
      for (int g = 0; g < 2; ++g) visit(at(KMajorGranule(b, row, g)), row, g, false);
    }
  }
}

void Wgmma::CheckOperand(const std::byte* granule, const Where& where) {
  if (!block_.Get<AsyncView>().Sees(granule, kGranule)) {
    block_.Fail("wgmma: an operand at byte " + std::to_string(granule - block_.shared().data()) +
                    " was written by ordinary stores without FenceProxyAsync",
                where);
  }
}

Wgmma::Tiles Wgmma::ReadOperands(const InFlight& op) const {
  const auto n = static_cast<size_t>(op.product.n);
  Tiles tiles{.a = op.a_registers, .b = std::vector<float>(kK * n)};
  VisitGranules(op, [&](const std::byte* granule, int row, int g, bool is_a) {
    for (int i = 0; i < 8; ++i) {
      const float value = ElementOf(granule, i);
      const auto r = static_cast<size_t>(row), c = static_cast<size_t>(8 * g + i);
      if (is_a) {
        tiles.a[r][c] = value;
      } else if (op.product.a_in_registers) {
        tiles.b[r * n + c] = value;  // [k][n]
      } else {
        tiles.b[c * n + r] = value;  // rows are n
      }
    }
  });
  return tiles;
}

void Wgmma::Commit(const Where& where) {
  block_.Meet("WgmmaCommit", where, nullptr, [](Block& block, const LaneArgs&) {
    Warp& warp = block.Get<Wgmma>().MyWarp();
    for (InFlight& op : warp.in_flight) {
      if (op.group < 0) op.group = warp.num_commits;
    }
    ++warp.num_commits;
  });
}

struct Wgmma::WaitArgs {
  int pending_groups;
  const Where* where;
};

void Wgmma::Wait(int pending_groups, const Where& where) {
  WaitArgs args{pending_groups, &where};
  // No warp's part is done before all four have asked for theirs.
  const int64_t needed = NeededProducts(MyWarp(), pending_groups);
  while (!GroupHasIssued(needed)) {
    block_.Park("WgmmaWait for the other warps of warpgroup", block_.warp() / 4, where, &MyGroup());
  }
  block_.Meet("WgmmaWait", where, &args, [](Block& block, const LaneArgs& lanes) {
    const auto& first = *static_cast<const WaitArgs*>(lanes[0]);
    Wgmma& unit = block.Get<Wgmma>();
    unit.Finish(unit.MyWarp(), first.pending_groups, *first.where);
  });
}

// How many products, counted from the block's start, a wait covers; 0 if none is under way.
int64_t Wgmma::NeededProducts(const Warp& warp, int pending_groups) const {
  const int end_group = warp.num_commits - pending_groups;
  const auto num_covered =
      std::count_if(warp.in_flight.begin(), warp.in_flight.end(),
                    [&](const InFlight& op) { return op.group >= 0 && op.group < end_group; });
  if (num_covered == 0) return 0;
  return warp.num_issued - static_cast<int64_t>(warp.in_flight.size()) + num_covered;
}

bool Wgmma::GroupHasIssued(int64_t num_products) const {
  const int first = block_.warp() / 4 * 4;
  const auto warps = warps_.begin() + first;
  return std::all_of(warps, warps + 4,
                     [&](const Warp& warp) { return warp.num_issued >= num_products; });
}

// All but the groups committed last.
void Wgmma::Finish(Warp& warp, int pending_groups, const Where& where) {
  const int end_group = warp.num_commits - pending_groups;
  while (!warp.in_flight.empty()) {
    const int group = warp.in_flight.front().group;
    if (group < 0 || group >= end_group) break;
    const InFlight op = std::move(warp.in_flight.front());
    warp.in_flight.pop_front();
    const auto accumulator =
        std::find_if(warp.accumulators.begin(), warp.accumulators.end(),
                     [&](const Accumulator& a) { return a.id == op.accumulator; });
    Run(op, *accumulator);
    Return(warp, op.accumulator, where);
  }
  warp.fenced = false;
}

void Wgmma::Run(const InFlight& op, Accumulator& accumulator) const {
  const Tiles late = op.early == nullptr ? ReadOperands(op) : Tiles{};
  const Tiles& tiles = op.early == nullptr ? late : *op.early;
  const auto n = static_cast<size_t>(op.product.n);
  std::vector<float> sums(16 * n);  // [m][n]
  const auto each_value = [&](auto visit) {
    for (size_t lane = 0; lane < kWarpSize; ++lane) {
      for (size_t i = 0; i < n / 2; ++i) {
        const size_t row = lane / 4 + i % 4 / 2 * 8;
        const size_t column = i / 4 * 8 + lane % 4 * 2 + i % 2;
        visit(accumulator.values[lane * (n / 2) + i], sums[row * n + column]);
      }
    }
  };
  if (op.product.accumulate) each_value([](float& value, float& sum) { sum = value; });
  for (size_t m = 0; m < 16; ++m) {
    AddTensorCoreProducts(tiles.a[m].data(), tiles.b.data(), n, sums.data() + m * n);
  }
  each_value([](float& value, float& sum) { value = sum; });
}

void Wgmma::OnThreadExit() {
  const Warp& warp = MyWarp();
  if (!warp.in_flight.empty()) {
    block_.Fail("a thread ended with wgmma under way", warp.in_flight.front().where);
  }
}

}  // namespace mea::simt
