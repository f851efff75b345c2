#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <type_traits>

#include "absl/strings/str_cat.h"

namespace mea {

// The check of an option that is a number. CLI11 puts the flag before what it says: "--threads: -1
// is outside 0..1024".
template <typename T>
CLI::Validator InRange(T low, T high) {
  const auto check = [low, high](const std::string& text) -> std::string {
    T value{};
    const std::string range = absl::StrCat(low, "..", high);
    if (!CLI::detail::lexical_cast(text, value)) {
      const char* kind = std::is_integral_v<T> ? "an integer" : "a number";
      return absl::StrCat("'", text, "' is not ", kind, " in ", range);
    }
    return value >= low && value <= high ? "" : absl::StrCat(text, " is outside ", range);
  };
  return CLI::Validator(check, "");
}

}  // namespace mea
