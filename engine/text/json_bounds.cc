#include "engine/text/json_bounds.h"

#include <absl/strings/str_cat.h>

#include <vector>

namespace mea {

absl::Status CheckJsonBounds(std::string_view text, const JsonBounds& bounds) {
  std::vector<int64_t> num_keys;  // of each list or object that is open
  int64_t num_containers = 0;
  int64_t num_look_ups = 0;
  bool in_string = false;
  // A parser stops here as at the end.
  if (text.find('\0') != text.npos) return absl::InvalidArgumentError("holds a NUL byte");
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      num_keys.push_back(0);
      if (std::ssize(num_keys) > bounds.max_depth) {
        return absl::InvalidArgumentError(
            absl::StrCat("nests lists and objects deeper than ", bounds.max_depth));
      }
      if (++num_containers > bounds.max_containers) {
        return absl::InvalidArgumentError(
            absl::StrCat("has more than ", bounds.max_containers, " lists and objects"));
      }
    } else if ((c == ']' || c == '}') && !num_keys.empty()) {
      num_keys.pop_back();
    } else if (c == ':' && !num_keys.empty()) {
      num_look_ups += num_keys.back()++;
      if (num_look_ups > bounds.max_look_ups) {
        return absl::InvalidArgumentError("has objects with too many keys");
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace mea
