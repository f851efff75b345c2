#pragma once

// Leaving out what a kernel cannot do without: a test omits its calls of primitives one after the
// other, and each must be missed.

#include <string>
#include <vector>

#include "tests/simt/block.h"

namespace mea::simt {

// From here on calls are recorded, and those of one name do nothing; "" omits none. Names are as
// "FenceProxyAsync in ZeroOthers", and "SyncThreads in Begin 2" of the second in a function; of
// primitives that do not know their place "WgmmaWait 2".
void OmitCalls(const std::string& name);
// The names of all calls so far, in their order; forgets them.
std::vector<std::string> TakeRecordedCalls();

// ---- For the device headers: whether the running thread's call is left out.
bool IsOmitted(const char* primitive, const Where& where);
bool IsOmitted(const char* primitive, const void* return_address);

}  // namespace mea::simt
