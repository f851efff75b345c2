#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

// What libFuzzer and replay.cc call: one input, of any bytes. Ends the process where something that
// must hold does not.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace mea::fuzz {

// Takes an input apart: choices first, then the text.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : bytes_(reinterpret_cast<const char*>(data), size) {}

  // A number below `bound`; 0 where nothing is left.
  size_t Choose(size_t bound) {
    if (bytes_.empty()) return 0;
    const auto byte = static_cast<unsigned char>(bytes_.front());
    bytes_.remove_prefix(1);
    return byte % bound;
  }
  // The text up to the next NUL, which goes with it.
  std::string_view Part() {
    const size_t end = bytes_.find('\0');
    const std::string_view part = bytes_.substr(0, end);
    bytes_.remove_prefix(end == bytes_.npos ? bytes_.size() : end + 1);
    return part;
  }
  std::string_view Rest() const { return bytes_; }

 private:
  std::string_view bytes_;
};

inline void Require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

}  // namespace mea::fuzz
