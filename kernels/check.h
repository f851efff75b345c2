#pragma once

#include <source_location>
#include <string_view>

namespace mea {

// Prints one line naming the broken invariant and aborts. Never reached by anything a user can
// send.
[[noreturn]] void CheckFailed(std::string_view condition, std::source_location where);

}  // namespace mea

// States what must hold whatever the input; user input is refused with absl::Status long before.
#define MEA_CHECK(condition)                                           \
  do {                                                                 \
    if (!(condition)) [[unlikely]] {                                   \
      ::mea::CheckFailed(#condition, std::source_location::current()); \
    }                                                                  \
  } while (false)
