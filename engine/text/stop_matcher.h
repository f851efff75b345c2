#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mea {

// Stop strings, prepared for StopMatcher (Knuth, Morris, Pratt 1977). Immutable, shared by copies
// of a matcher.
class StopStrings {
 public:
  explicit StopStrings(std::vector<std::string> strings);

  int count() const { return static_cast<int>(strings_.size()); }
  size_t length(int index) const { return strings_[index].size(); }
  const std::string& text(int index) const { return strings_[index]; }
  // How much of the string the text ends with after `byte`, if it ended with `matched` before.
  uint32_t Advance(int index, uint32_t matched, char byte) const;
  // How much of the string its own end may begin.
  uint32_t Restart(int index) const { return borders_[index].back(); }

 private:
  std::vector<std::string> strings_;
  std::vector<std::vector<uint32_t>>
      borders_;  // [i][n]: longest proper border of the first n bytes
};

// Reads a text once and finds the stop string that is complete first; of several complete at the
// same byte, the longest.
class StopMatcher {
 public:
  struct Match {
    int index;
    size_t end;  // in the text given to Scan
  };

  explicit StopMatcher(const StopStrings* strings)
      : strings_(strings), matched_(strings->count(), 0) {}

  // Reads on up to the first match.
  std::optional<Match> Scan(std::string_view text);
  // Reads on and lets matches pass; one that has begun here may be completed by what follows.
  void Skip(std::string_view text);

  // How many of the last bytes may be the beginning of a stop string.
  size_t num_held() const;

 private:
  const StopStrings* strings_;
  std::vector<uint32_t> matched_;  // how much of each string the text ends with
};

}  // namespace mea
