#pragma once

#include <source_location>
#include <string_view>

namespace mea {

// Prints one line naming the broken invariant and aborts. Nothing that a user can send reaches it.
[[noreturn]] void CheckFailed(std::string_view condition, std::source_location where);

}  // namespace mea

// States what must hold for every input; bad user input is refused with absl::Status long before.
#define MEA_CHECK(condition)                                           \
  do {                                                                 \
    if (!(condition)) [[unlikely]] {                                   \
      ::mea::CheckFailed(#condition, std::source_location::current()); \
    }                                                                  \
  } while (false)
