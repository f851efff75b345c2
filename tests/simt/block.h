#pragma once

// One block of threads, run on the host: each thread is a fiber that runs until it has to wait.
// Which ready thread comes next is drawn from a seed. Kernels get here through the headers in
// tests/simt/kernels/cuda/device.

#include <array>
#include <cstdint>
#include <memory>
#include <source_location>
#include <string>
#include <string_view>
#include <vector>

#include "tests/simt/fiber.h"
#include "tests/simt/index.h"
#include "tests/simt/shared_memory.h"

namespace mea::simt {

inline constexpr int kWarpSize = 32;
inline constexpr int kMaxWarps = 32;  // 1024 threads
inline constexpr int kNumBarriers = 16;
inline constexpr uint32_t kAllLanes = ~0u;

using Where = std::source_location;
using LaneArgs = std::array<void*, kWarpSize>;

// A grid to run: kernel(closure) is the body of every thread.
struct Grid {
  dim3 grid;
  dim3 block;
  int shared_bytes = 0;
  void (*kernel)(const void* closure) = nullptr;
  const void* closure = nullptr;
  uint64_t seed = 0;
  bool overlaps_previous = false;
  bool sm90 = true;
};

// xorshift64*: the emulator's own, so that a seed means the same everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u | 1u) {}
  uint32_t Next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return static_cast<uint32_t>((state_ * 0x2545f4914f6cdd1du) >> 32);
  }
  // In [0, bound).
  uint32_t Below(uint32_t bound) {
    return static_cast<uint32_t>((static_cast<uint64_t>(Next()) * bound) >> 32);
  }

 private:
  uint64_t state_;
};

// What an asynchronous unit of the block (cp.async, bulk copies, wgmma) has under way. Units are
// made when a block first uses them and told when threads and the block end.
class Unit {
 public:
  virtual ~Unit() = default;
  // Nobody can run: lets one thing happen that could no longer be put off. False: there is none.
  virtual bool ForceProgress() { return false; }
  virtual void OnThreadExit() {}
};

class Block {
 public:
  // The block whose thread runs now; aborts outside a kernel.
  static Block& Current();

  // Why Continue came back.
  enum class Pause {
    kEnded,             // every thread has
    kLetNextStart,      // the first thread called LetNextStart
    kWaitsForPrevious,  // nobody can go on before PreviousEnded
  };

  explicit Block(const Grid& grid);
  ~Block();

  // Gets the block ready to run anew. While `previous_runs`, WaitForPrevious waits.
  void Start(dim3 block_index, bool previous_runs);
  Pause Continue();
  void PreviousEnded();

  bool let_next_start() const { return let_next_start_; }
  bool ended() const { return pause_ == Pause::kEnded; }
  bool waited_for_previous() const { return waited_for_previous_; }

  // ---- For primitives; each is called by the running thread.

  // Waits until all 32 lanes of the warp are at the same call, then combine(args of all lanes) runs
  // once. `what` names the primitive.
  void Meet(const char* what, const Where& where, void* args,
            void (*combine)(Block& block, const LaneArgs& args));

  // bar.sync: waits for num_threads of the block; 0 means all that have not ended.
  void Barrier(const char* what, const Where& where, int id, int num_threads);

  // Parks the running thread until somebody calls Wake with the same key. `what` and `detail` say
  // in reports what it waits for.
  void Park(const char* what, int64_t detail, const Where& where, const void* key);
  void Wake(const void* key);

  // Lets other threads run if the dice say so: called where hardware may switch warps.
  void Dither();

  // griddepcontrol.wait and griddepcontrol.launch_dependents.
  void WaitForPrevious(const Where& where);
  void LetNextStart();

  // Aborts where the device headers trap: on a device before sm_90.
  void RequireSm90(std::string_view what) const;

  // Aborts, naming the kernel's place, the thread and the seed.
  [[noreturn]] void Fail(std::string_view message, const Where& where) const;

  int thread() const { return current_; }
  int lane() const { return current_ & (kWarpSize - 1); }
  int warp() const { return current_ >> 5; }
  int num_threads() const { return num_threads_; }
  const Grid& grid() const { return grid_; }
  SharedMemory& shared() { return shared_; }
  const SharedMemory& shared() const { return shared_; }
  Random& random() { return random_; }

  // The block's unit of that type.
  template <class U>
  U& Get() {
    return static_cast<U&>(
        GetUnit(U::kId, [](Block& b) -> std::unique_ptr<Unit> { return std::make_unique<U>(b); }));
  }

 private:
  struct Warp {
    uint32_t live = 0;     // lanes that have not ended
    uint32_t ready = 0;    // lanes that can go on
    uint32_t arrived = 0;  // lanes at the meeting
    const char* what = nullptr;
    Where where;
    LaneArgs args;
    int barrier = -1;  // the whole warp waits at it
  };
  struct NamedBarrier {
    int arrived = 0;
    int expected = 0;
    uint32_t warps = 0;
  };
  struct Parked {
    int thread;
    const char* what;
    int64_t detail;
    Where where;
    const void* key;
  };

  using Fibers = std::array<Fiber, kMaxWarps * kWarpSize>;

  static std::vector<std::unique_ptr<Fibers>>& SpareFibers();
  static void FiberMain();
  void Leave(Pause pause);
  Unit& GetUnit(int id, std::unique_ptr<Unit> (*make)(Block&));
  Fiber& FiberOf(int thread) { return fibers_->at(static_cast<size_t>(thread)); }
  void SetCurrent(int thread);
  bool Arrive(const char* what, const Where& where, void* args);
  void ArriveAtBarrier(Warp& warp, const Where& where, int id, int num_threads);
  void ReleaseBarrier(NamedBarrier& barrier);
  void ThreadEnds();
  bool ForceProgress();
  int PickNext();
  void Yield();
  void Wait();
  void SetReady(int warp, uint32_t ready);
  std::string Waiters() const;

  Grid grid_;
  int num_threads_;
  int num_warps_;
  int live_threads_ = 0;
  int current_ = -1;
  uint32_t ready_warps_ = 0;
  dim3 block_index_;
  std::vector<uint3> thread_index_;
  Random random_;
  SharedMemory shared_;
  std::array<Warp, kMaxWarps> warps_;
  std::array<NamedBarrier, kNumBarriers> barriers_;
  std::vector<Parked> parked_;
  std::array<std::unique_ptr<Unit>, 4> units_;
  bool previous_runs_ = false;
  bool waited_for_previous_ = false;  // some thread, in some run
  bool let_next_start_ = false;
  Pause pause_ = Pause::kEnded;
  std::unique_ptr<Fibers> fibers_;
  Fiber host_;
};

}  // namespace mea::simt
