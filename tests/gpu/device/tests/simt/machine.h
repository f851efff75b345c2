#pragma once

// In place of tests/simt/machine.h where tests run on a real device: it is as it is, and draws its
// own orders.

#include <cstdint>

namespace mea::simt {

struct MachineOptions {
  uint64_t seed = 1;
};

inline void ResetMachine(const MachineOptions& /*options*/ = {}) {}
inline int64_t NumLiveObjects() { return 0; }

}  // namespace mea::simt
