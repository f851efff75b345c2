#include "tests/simt/block.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <utility>

#include "kernels/check.h"

constinit thread_local uint3 threadIdx{};
constinit thread_local uint3 blockIdx{};
constinit thread_local dim3 blockDim{};
constinit thread_local dim3 gridDim{};

namespace mea::simt {
namespace {

constinit thread_local Block* running_block = nullptr;

// A set bit of the mask, drawn by `roll`.
int PickBit(uint32_t mask, uint32_t roll) {
  const int shift = static_cast<int>(roll % 32);
  return (shift + std::countr_zero(std::rotr(mask, shift))) % 32;
}

uint64_t Volume(dim3 d) { return uint64_t{d.x} * d.y * d.z; }

std::string FileLine(const Where& where) {
  return std::string(where.file_name()) + ":" + std::to_string(where.line());
}

}  // namespace

Block& Block::Current() {
  MEA_CHECK(running_block != nullptr);
  return *running_block;
}

Block::Block(const Grid& grid)
    : grid_(grid),
      num_threads_(static_cast<int>(Volume(grid.block))),
      num_warps_(num_threads_ / kWarpSize),
      random_(grid.seed),
      shared_(grid.shared_bytes) {
  if (SpareFibers().empty()) {
    fibers_ = std::make_unique<Fibers>();
  } else {
    fibers_ = std::move(SpareFibers().back());
    SpareFibers().pop_back();
  }
  MEA_CHECK(num_threads_ > 0 && num_threads_ <= kMaxWarps * kWarpSize);
  // Kernels of this project use whole warps only.
  MEA_CHECK(num_threads_ % kWarpSize == 0);
  for (unsigned t = 0; t < static_cast<unsigned>(num_threads_); ++t) {
    const unsigned row = t / grid.block.x;
    thread_index_.push_back({t % grid.block.x, row % grid.block.y, row / grid.block.y});
  }
}

Block::~Block() { SpareFibers().push_back(std::move(fibers_)); }

// Stacks to use again, of this host thread.
std::vector<std::unique_ptr<Block::Fibers>>& Block::SpareFibers() {
  static thread_local std::vector<std::unique_ptr<Fibers>> spare;
  return spare;
}

void Block::Start(dim3 block_index, bool previous_runs) {
  block_index_ = block_index;
  previous_runs_ = previous_runs;
  let_next_start_ = false;
  shared_.Poison();
  barriers_.fill({});
  parked_.clear();
  live_threads_ = num_threads_;
  for (int w = 0; w < num_warps_; ++w) {
    warps_[w] = {};
    warps_[w].live = kAllLanes;
    SetReady(w, kAllLanes);
  }
  for (int thread = 0; thread < num_threads_; ++thread) FiberOf(thread).Start(&Block::FiberMain);
  current_ = 0;  // the warp to stay with, if the dice say so
  current_ = PickNext();
}

Block::Pause Block::Continue() {
  running_block = this;
  blockIdx = {block_index_.x, block_index_.y, block_index_.z};
  blockDim = grid_.block;
  gridDim = grid_.grid;
  SetCurrent(current_);
  FiberOf(current_).SwitchFrom(host_);
  running_block = nullptr;
  if (pause_ == Pause::kEnded) {
    for (auto& unit : units_) unit.reset();
    if (!shared_.MarginsIntact()) Fail("a thread wrote beside the shared memory", Where::current());
  }
  return pause_;
}

// Hands over to Continue; the next Continue resumes the running thread, or another that is ready.
void Block::Leave(Pause pause) {
  pause_ = pause;
  host_.SwitchFrom(FiberOf(current_));
}

void Block::PreviousEnded() {
  previous_runs_ = false;
  Wake(&previous_runs_);
  current_ = PickNext();
}

void Block::WaitForPrevious(const Where& where) {
  waited_for_previous_ = true;
  if (previous_runs_) Park("WaitForPrevious", 0, where, &previous_runs_);
}

void Block::LetNextStart() {
  if (std::exchange(let_next_start_, true)) return;
  Leave(Pause::kLetNextStart);
}

void Block::FiberMain() {
  Block& block = *running_block;
  block.FiberOf(block.current_).Entered();
  block.grid_.kernel(block.grid_.closure);
  block.ThreadEnds();
}

void Block::SetCurrent(int thread) {
  current_ = thread;
  threadIdx = thread_index_[static_cast<size_t>(thread)];
}

void Block::SetReady(int warp, uint32_t ready) {
  warps_[warp].ready = ready;
  const uint32_t bit = 1u << warp;
  ready_warps_ = ready != 0 ? ready_warps_ | bit : ready_warps_ & ~bit;
}

bool Block::ForceProgress() {
  const uint32_t first = random_.Next();
  for (uint32_t i = 0; i < units_.size(); ++i) {
    Unit* unit = units_[(first + i) % units_.size()].get();
    if (unit != nullptr && unit->ForceProgress()) return true;
  }
  return false;
}

// The thread to run next; -1 when all have ended, or wait for the previous kernel.
int Block::PickNext() {
  constexpr uint32_t kStay = 16;  // one switch in so many leaves a warp that could go on
  while (ready_warps_ == 0) {
    if (live_threads_ == 0) return -1;
    if (ForceProgress()) continue;
    if (previous_runs_ && waited_for_previous_) return -1;
    Fail("deadlock: every thread waits", Where::current());
  }
  const uint32_t roll = random_.Next();
  int warp = current_ >> 5;
  const bool can_stay = (ready_warps_ >> warp & 1) != 0;
  if (!can_stay || roll % kStay == 0) warp = PickBit(ready_warps_, roll >> 8);
  return warp * kWarpSize + PickBit(warps_[warp].ready, roll >> 16);
}

void Block::Yield() {
  const int from = current_;
  const int next = PickNext();
  if (next == from) return;
  if (next < 0) {
    Leave(Pause::kWaitsForPrevious);
    return;
  }
  SetCurrent(next);
  FiberOf(next).SwitchFrom(FiberOf(from));
}

void Block::Dither() {
  if (random_.Below(4) == 0) Yield();
}

// Until somebody sets the ready bit of the running thread.
void Block::Wait() {
  SetReady(warp(), warps_[warp()].ready & ~(1u << lane()));
  Yield();
}

void Block::ThreadEnds() {
  for (auto& unit : units_) {
    if (unit != nullptr) unit->OnThreadExit();
  }
  Warp& w = warps_[warp()];
  if (w.arrived != 0) {
    Fail(std::string("a thread ended while others of its warp wait at ") + w.what, w.where);
  }
  const uint32_t bit = 1u << lane();
  w.live &= ~bit;
  SetReady(warp(), w.ready & ~bit);
  --live_threads_;
  // The ended no longer count for SyncThreads.
  NamedBarrier& barrier = barriers_[0];
  if (barrier.arrived > 0 && barrier.arrived == live_threads_) ReleaseBarrier(barrier);

  const int from = current_;
  const int next = PickNext();
  if (next < 0) {
    Leave(live_threads_ == 0 ? Pause::kEnded : Pause::kWaitsForPrevious);
  } else {
    SetCurrent(next);
    FiberOf(next).SwitchFrom(FiberOf(from));
  }
  std::abort();  // nobody switches to an ended thread
}

// Notes the running thread at its warp's meeting; true when it is the last.
bool Block::Arrive(const char* what, const Where& where, void* args) {
  Warp& w = warps_[warp()];
  if (w.live != kAllLanes) {
    Fail(std::string(what) + " needs the whole warp, but threads of it have ended", where);
  }
  if (w.arrived == 0) {
    w.what = what;
    w.where = where;
  } else if (w.where.line() != where.line() || w.where.column() != where.column() ||
             (w.what != what && std::string_view(w.what) != what)) {
    Fail(std::string("divergent warp: this thread is at ") + what + ", others wait at " + w.what +
             ", " + FileLine(w.where),
         where);
  }
  w.args[lane()] = args;
  w.arrived |= 1u << lane();
  return w.arrived == kAllLanes;
}

void Block::Meet(const char* what, const Where& where, void* args,
                 void (*combine)(Block& block, const LaneArgs& args)) {
  if (!Arrive(what, where, args)) {
    Wait();
    return;
  }
  Warp& w = warps_[warp()];
  combine(*this, w.args);
  w.arrived = 0;
  SetReady(warp(), kAllLanes);
  Dither();
}

void Block::Barrier(const char* what, const Where& where, int id, int num_threads) {
  struct Args {
    int id, num_threads;
  } args{id, num_threads};
  if (id < 0 || id >= kNumBarriers) Fail("no such barrier: " + std::to_string(id), where);
  if (num_threads < 0 || num_threads % kWarpSize != 0 || num_threads > num_threads_) {
    Fail("a barrier of " + std::to_string(num_threads) + " threads", where);
  }
  if (!Arrive(what, where, &args)) {
    Wait();
    return;
  }
  Warp& w = warps_[warp()];
  for (const void* other : w.args) {
    const Args& theirs = *static_cast<const Args*>(other);
    if (theirs.id != id || theirs.num_threads != num_threads) {
      Fail("threads of one warp name different barriers", where);
    }
  }
  ArriveAtBarrier(w, where, id, num_threads);
}

// The whole warp is there; its last thread runs.
void Block::ArriveAtBarrier(Warp& w, const Where& where, int id, int num_threads) {
  NamedBarrier& barrier = barriers_[static_cast<size_t>(id)];
  if (barrier.arrived > 0 && barrier.expected != num_threads) {
    Fail("barrier " + std::to_string(id) + ": this warp expects " + std::to_string(num_threads) +
             " threads, others " + std::to_string(barrier.expected),
         where);
  }
  w.barrier = id;
  barrier.expected = num_threads;
  barrier.arrived += kWarpSize;
  barrier.warps |= 1u << warp();
  if (barrier.arrived == (num_threads == 0 ? live_threads_ : num_threads)) {
    ReleaseBarrier(barrier);
    Dither();
  } else {
    Wait();
  }
}

void Block::ReleaseBarrier(NamedBarrier& barrier) {
  for (int w = 0; w < num_warps_; ++w) {
    if ((barrier.warps >> w & 1) == 0) continue;
    warps_[w].arrived = 0;
    warps_[w].barrier = -1;
    SetReady(w, warps_[w].live);
  }
  barrier = {};
}

void Block::Park(const char* what, int64_t detail, const Where& where, const void* key) {
  parked_.push_back({current_, what, detail, where, key});
  Wait();
}

void Block::Wake(const void* key) {
  std::erase_if(parked_, [&](const Parked& p) {
    if (p.key != key) return false;
    const int w = p.thread / kWarpSize;
    SetReady(w, warps_[w].ready | 1u << (p.thread % kWarpSize));
    return true;
  });
}

Unit& Block::GetUnit(int id, std::unique_ptr<Unit> (*make)(Block&)) {
  auto& unit = units_[static_cast<size_t>(id)];
  if (unit == nullptr) unit = make(*this);
  return *unit;
}

// One line per warp that waits or has threads that do.
std::string Block::Waiters() const {
  std::ostringstream text;
  for (int w = 0; w < num_warps_; ++w) {
    const Warp& warp = warps_[w];
    if (warp.live == 0) continue;
    text << "  warp " << w << ":";
    if (warp.arrived != 0) {
      text << ' ' << std::popcount(warp.arrived) << " lanes at " << warp.what;
      if (warp.barrier > 0) text << ' ' << warp.barrier;
      text << " (" << FileLine(warp.where) << ");";
    }
    for (const Parked& p : parked_) {
      if (p.thread / kWarpSize != w) continue;
      text << " lane " << p.thread % kWarpSize << " at " << p.what << ' ' << p.detail << " ("
           << FileLine(p.where) << ");";
    }
    if (const int ready = std::popcount(warp.ready)) text << ' ' << ready << " lanes ready;";
    if (const int ended = std::popcount(~warp.live)) text << ' ' << ended << " lanes ended;";
    text << '\n';
  }
  return text.str();
}

void Block::RequireSm90(std::string_view what) const {
  if (!grid_.sm90) Fail("trap: this device has no " + std::string(what), Where::current());
}

void Block::Fail(std::string_view message, const Where& where) const {
  std::fprintf(
      stderr,
      "simt: %.*s\n  at %s, block (%u, %u, %u), thread %d (warp %d, lane %d), seed %llu\n%s",
      static_cast<int>(message.size()), message.data(), FileLine(where).c_str(), block_index_.x,
      block_index_.y, block_index_.z, current_, warp(), lane(),
      static_cast<unsigned long long>(grid_.seed), Waiters().c_str());
  std::abort();
}

}  // namespace mea::simt
