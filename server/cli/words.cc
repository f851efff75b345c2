#include "server/cli/words.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

namespace mea {

size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t changed = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({row[j] + 1, row[j + 1] + 1, changed});
    }
  }
  return row.back();
}

bool HasWord(std::string_view list, std::string_view word) {
  for (size_t end; !list.empty(); list.remove_prefix(std::min(list.size(), end + 1))) {
    end = std::min(list.find(' '), list.size());
    if (list.substr(0, end) == word) return true;
  }
  return false;
}

}  // namespace mea
