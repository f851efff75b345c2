#pragma once

#include <cstdint>
#include <string_view>

namespace mea {

// A number that other bytes almost never have: it finds what a disk, a full one or a crash damaged,
// as fast as memory is read. Not secure against forgery; the same on every little-endian machine.
uint64_t Checksum(std::string_view bytes);

}  // namespace mea
