#include "tests/simt/bulk.h"

#include <cstring>
#include <string>

#include "tests/simt/async_view.h"
#include "tests/simt/collectives.h"

namespace mea::simt {
namespace {

constexpr int kMaxCount = (1 << 20) - 1;
constexpr int64_t kMaxTx = (1 << 20) - 1;

// What an initialised barrier's memory holds: nothing that data would.
uint64_t MarkOf(const Block& block, const uint64_t* barrier) {
  return 0x6d626172'00000000u + block.shared().Address(barrier);
}

}  // namespace

void Bulk::Init(uint64_t* barrier, int count, const Where& where) {
  CheckShared("Init of an mbarrier", barrier, 8, where);
  if (count < 1 || count > kMaxCount) {
    block_.Fail("an mbarrier of " + std::to_string(count) + " arrivals", where);
  }
  *barrier = MarkOf(block_, barrier);
  barriers_[barrier] = {.count = count, .pending = count, .initialiser = block_.thread()};
}

void Bulk::Fence() {
  for (auto& [address, barrier] : barriers_) {
    if (barrier.initialiser == block_.thread()) barrier.fenced = true;
  }
}

Bulk::Barrier& Bulk::Find(const char* what, uint64_t* barrier, const Where& where) {
  CheckShared(what, barrier, 8, where);
  const auto it = barriers_.find(barrier);
  if (it == barriers_.end()) block_.Fail(std::string(what) + ": no mbarrier there", where);
  if (*barrier != MarkOf(block_, barrier)) {
    block_.Fail(std::string(what) + ": the mbarrier was overwritten", where);
  }
  return it->second;
}

void Bulk::CompleteIfDone(uint64_t* address, Barrier& barrier) {
  if (barrier.pending != 0 || barrier.tx != 0) return;
  barrier.pending = barrier.count;
  ++barrier.phase;
  block_.Wake(address);
}

void Bulk::Arrive(uint64_t* address, int expected_bytes, const Where& where) {
  Barrier& barrier = Find("Arrive", address, where);
  if (barrier.pending == 0) block_.Fail("more arrivals than the mbarrier counts", where);
  barrier.tx += expected_bytes;
  if (expected_bytes < 0 || barrier.tx > kMaxTx) {
    block_.Fail("ArriveExpect: " + std::to_string(barrier.tx) + " bytes in one phase", where);
  }
  --barrier.pending;
  CompleteIfDone(address, barrier);
  block_.Dither();
}

void Bulk::Wait(uint64_t* address, int parity, const Where& where) {
  if (parity != 0 && parity != 1) {
    block_.Fail("Wait for parity " + std::to_string(parity), where);
  }
  while (true) {
    Barrier& barrier = Find("Wait", address, where);
    // The phase of that parity is the current one, hence not complete.
    const auto incomplete = [&] { return barrier.phase % 2 == parity; };
    if (incomplete() && barrier.pending == 0 && block_.random().Below(2) == 0) LandFor(address);
    if (!incomplete()) break;
    block_.Park("Wait for an mbarrier, its byte", block_.shared().Address(address), where, address);
  }
  block_.Dither();
}

void Bulk::Copy(void* shared, const void* global, int bytes, uint64_t* address,
                const Where& where) {
  if (bytes <= 0 || bytes % 16 != 0) {
    block_.Fail("BulkCopy of " + std::to_string(bytes) + " bytes", where);
  }
  auto* to = static_cast<std::byte*>(shared);
  CheckShared("BulkCopy", to, 16, where);
  CheckShared("BulkCopy", to + bytes - 16, 16, where);
  CheckGlobal("BulkCopy", global, bytes, where);
  if (!Find("BulkCopy", address, where).fenced) {
    block_.Fail("BulkCopy: its mbarrier was initialised without FenceInit", where);
  }
  std::memset(to, 0xff, static_cast<size_t>(bytes));
  block_.Get<AsyncView>().Written(to, bytes);
  InFlight copy = {to, global, bytes, address, {}};
  if (block_.random().Below(2) == 0) {
    const auto* from = static_cast<const std::byte*>(global);
    copy.early.assign(from, from + bytes);
  }
  in_flight_.push_back(std::move(copy));
}

void Bulk::Land(size_t index) {
  const InFlight copy = std::move(in_flight_[index]);
  in_flight_.erase(in_flight_.begin() + static_cast<ptrdiff_t>(index));
  std::memcpy(copy.shared, copy.early.empty() ? copy.global : copy.early.data(),
              static_cast<size_t>(copy.bytes));
  block_.Get<AsyncView>().Written(copy.shared, copy.bytes);
  Barrier& barrier = Find("a bulk copy that landed", copy.barrier, Where::current());
  barrier.tx -= copy.bytes;
  CompleteIfDone(copy.barrier, barrier);
}

void Bulk::LandFor(uint64_t* barrier) {
  for (size_t i = 0; i < in_flight_.size();) {
    if (in_flight_[i].barrier == barrier) {
      Land(i);
    } else {
      ++i;
    }
  }
}

bool Bulk::ForceProgress() {
  if (in_flight_.empty()) return false;
  Land(block_.random().Below(static_cast<uint32_t>(in_flight_.size())));
  return true;
}

}  // namespace mea::simt
