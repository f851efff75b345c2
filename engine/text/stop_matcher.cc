#include "engine/text/stop_matcher.h"

#include <algorithm>

namespace mea {

StopStrings::StopStrings(std::vector<std::string> strings) : strings_(std::move(strings)) {
  for (int i = 0; i < count(); ++i) {
    borders_.emplace_back(strings_[i].size() + 1, 0);
    for (size_t n = 1; n < strings_[i].size(); ++n) {
      borders_[i][n + 1] = Advance(i, borders_[i][n], strings_[i][n]);
    }
  }
}

uint32_t StopStrings::Advance(int index, uint32_t matched, char byte) const {
  const std::string& stop = strings_[index];
  while (matched > 0 && (matched == stop.size() || stop[matched] != byte)) {
    matched = borders_[index][matched];
  }
  return stop[matched] == byte ? matched + 1 : matched;
}

std::optional<StopMatcher::Match> StopMatcher::Scan(std::string_view text) {
  if (matched_.empty()) return std::nullopt;
  for (size_t at = 0; at < text.size(); ++at) {
    int found = -1;
    for (int i = 0; i < strings_->count(); ++i) {
      matched_[i] = strings_->Advance(i, matched_[i], text[at]);
      if (matched_[i] < strings_->length(i)) continue;
      if (found < 0 || strings_->length(i) > strings_->length(found)) found = i;
    }
    if (found >= 0) return Match{found, at + 1};
  }
  return std::nullopt;
}

void StopMatcher::Skip(std::string_view text) {
  while (const auto match = Scan(text)) {
    text.remove_prefix(match->end);
    for (int i = 0; i < strings_->count(); ++i) {
      if (matched_[i] == strings_->length(i)) matched_[i] = strings_->Restart(i);
    }
  }
}

size_t StopMatcher::num_held() const {
  return matched_.empty() ? 0 : *std::max_element(matched_.begin(), matched_.end());
}

}  // namespace mea
