#pragma once

#include <string>

namespace mea {

// Whether only this machine can reach the address. True for an invalid address, which the code that
// listens refuses.
bool IsOfThisMachine(const std::string& address);

}  // namespace mea
