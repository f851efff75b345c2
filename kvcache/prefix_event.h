#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mea {

// What the prefix index tells others of its entries, each a full page of tokens that can be found.
struct PrefixEvent {
  enum class Kind {
    kStored,
    kRemoved,  // its page has been taken for something else
    kCleared,  // all of them are gone
  };
  Kind kind = Kind::kStored;
  int64_t entry = 0;            // its number: never reused, and above that of the entry it follows
  int64_t before = 0;           // of kStored: the entry that it follows; 0: it begins a prompt
  std::vector<int32_t> tokens;  // of kStored
  std::string salt;             // of kStored, if it begins a prompt; the others inherit it
};

}  // namespace mea
