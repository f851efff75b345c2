#pragma once

#include <string>

namespace mea {

// Whether only this machine can reach the address. What is no address is no danger: whoever listens
// there says so.
bool IsOfThisMachine(const std::string& address);

}  // namespace mea
