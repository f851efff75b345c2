#pragma once

#include "absl/time/time.h"

namespace mea::testing {

// Loaded before the C library (LD_PRELOAD) the clock is ahead by the seconds, an int64_t, in the
// file that this variable names.
inline constexpr char kWallClockVariable[] = "MEA_WALL_CLOCK";

// Sets the wall clock of this program, libraries included, so far ahead of the machine's. Waits
// inside the kernel go by the machine's clock: until a time read here they last longer by as much,
// as if the clock was set back meanwhile.
void SetWallClockAhead(absl::Duration ahead);

}  // namespace mea::testing
