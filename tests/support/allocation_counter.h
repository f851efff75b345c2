#pragma once

#include <cstdint>

namespace mea::testing {

// How often the program has asked for memory by operator new, since it began: whoever links this
// counts them all, kernels' scratch (kernels/cpu/scratch.h) included.
int64_t NumAllocations();

}  // namespace mea::testing
