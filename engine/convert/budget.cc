#include "engine/convert/budget.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "absl/strings/str_cat.h"

namespace mea::convert {

absl::StatusOr<std::vector<int>> SpendBudget(const std::vector<std::vector<Choice>>& items,
                                             int64_t budget) {
  int64_t unit = 0;
  int64_t least = 0;
  for (const std::vector<Choice>& choices : items) {
    int64_t smallest = choices[0].bytes;
    for (const Choice& choice : choices) {
      unit = std::gcd(unit, choice.bytes);
      smallest = std::min(smallest, choice.bytes);
    }
    least += smallest;
  }
  if (least > budget) {
    return absl::InvalidArgumentError(
        absl::StrCat("a budget of ", budget, " bytes per token; at least ", least, " are needed"));
  }
  if (items.empty() || unit == 0) return std::vector<int>(items.size(), 0);

  // best[b]: the least loss of the items so far within b units.
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const int64_t units = budget / unit;
  std::vector<double> best(units + 1, 0.0);
  std::vector<std::vector<int16_t>> taken;
  for (const std::vector<Choice>& choices : items) {
    std::vector<double> next(units + 1, kInfinity);
    std::vector<int16_t>& choice_at = taken.emplace_back(units + 1, int16_t{-1});
    for (int64_t b = 0; b <= units; ++b) {
      for (size_t i = 0; i < choices.size(); ++i) {
        const int64_t before = b - choices[i].bytes / unit;
        if (before < 0 || best[before] + choices[i].loss > next[b]) continue;
        const bool equal = best[before] + choices[i].loss == next[b];
        if (equal && choice_at[b] >= 0 && choices[i].bytes <= choices[choice_at[b]].bytes) continue;
        if (best[before] == kInfinity) continue;
        next[b] = best[before] + choices[i].loss;
        choice_at[b] = static_cast<int16_t>(i);
      }
    }
    best = std::move(next);
  }
  std::vector<int> chosen(items.size());
  int64_t b = units;
  for (size_t item = items.size(); item-- > 0;) {
    chosen[item] = taken[item][b];
    b -= items[item][chosen[item]].bytes / unit;
  }
  return chosen;
}

}  // namespace mea::convert
