#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "tests/simt/block.h"

namespace mea::simt {

// mbarriers and the bulk copies that report to them, see kernels/cuda/device/mbarrier.h. A copy's
// destination is poisoned when it is issued; the bytes land when a thread waits for them, or not
// before every thread of the block waits for something, and the source is read when the copy is
// issued or when it lands: the dice decide. One unit per block.
class Bulk : public Unit {
 public:
  static constexpr int kId = 1;

  explicit Bulk(Block& block) : block_(block) { block.RequireSm90("mbarriers"); }

  void Init(uint64_t* barrier, int count, const Where& where);
  // fence.mbarrier_init and fence.proxy.async alike.
  void Fence();
  void Arrive(uint64_t* barrier, int expected_bytes, const Where& where);
  void Wait(uint64_t* barrier, int parity, const Where& where);
  void Copy(void* shared, const void* global, int bytes, uint64_t* barrier, const Where& where);

  bool ForceProgress() override;

 private:
  // The state of a barrier; the kernel's own memory holds a mark that shows it is still there.
  struct Barrier {
    int count = 0;    // arrivals per phase
    int pending = 0;  // arrivals this phase lacks
    int64_t tx = 0;   // announced bytes that have not landed
    int phase = 0;    // completed phases
    bool fenced = false;
    int initialiser = 0;  // thread
  };
  struct InFlight {
    std::byte* shared;
    const void* global;
    int bytes;
    uint64_t* barrier;
    std::vector<std::byte> early;  // the bytes, if read already
  };

  Barrier& Find(const char* what, uint64_t* barrier, const Where& where);
  void CompleteIfDone(uint64_t* address, Barrier& barrier);
  void Land(size_t index);
  void LandFor(uint64_t* barrier);

  Block& block_;
  std::map<uint64_t*, Barrier> barriers_;
  std::vector<InFlight> in_flight_;
};

}  // namespace mea::simt
