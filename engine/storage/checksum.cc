#include "engine/storage/checksum.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace mea {
namespace {

// Both halves of a product: the lower one moves every bit up, and its highest would stay what it
// is.
uint64_t Mix(uint64_t state, uint64_t word) {
  const auto product = static_cast<unsigned __int128>(state ^ word) * 0x9e3779b97f4a7c15u;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

}  // namespace

uint64_t Checksum(std::string_view bytes) {
  // Side by side: one product does not wait for another.
  std::array<uint64_t, 8> lanes = {1, 2, 3, 4, 5, 6, 7, 8};
  const size_t size = bytes.size();
  for (; bytes.size() >= sizeof(lanes); bytes.remove_prefix(sizeof(lanes))) {
    std::array<uint64_t, lanes.size()> words;
    std::memcpy(words.data(), bytes.data(), sizeof(words));
    for (size_t i = 0; i < lanes.size(); ++i) lanes[i] = Mix(lanes[i], words[i]);
  }
  uint64_t sum = size;
  while (!bytes.empty()) {
    uint64_t word = 0;
    const size_t count = std::min(bytes.size(), sizeof(word));
    std::memcpy(&word, bytes.data(), count);
    sum = Mix(sum, word);
    bytes.remove_prefix(count);
  }
  for (const uint64_t lane : lanes) sum = Mix(sum, lane);
  return sum;
}

}  // namespace mea
