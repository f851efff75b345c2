#pragma once

#include <cstdint>
#include <string>

namespace mea {

// "1.50 GiB": sizes as every message for people shows them.
std::string HumanBytes(int64_t bytes);

}  // namespace mea
