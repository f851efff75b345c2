#include "engine/prompt_shares.h"

#include <algorithm>
#include <cstdint>
#include <numeric>

namespace mea {
namespace {

int LeastOfFirst(int budget, const PromptLeft& first) {
  return std::min((budget + 3) / 4, first.num_tokens);
}

}  // namespace

std::vector<int> DividePromptBudget(int budget, std::span<const PromptLeft> prompts) {
  std::vector<int> shares(prompts.size(), 0);
  if (prompts.empty()) return shares;
  std::vector<int> order(prompts.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order,
                           [&](int a, int b) { return IsServedBefore(prompts[a], prompts[b]); });
  shares[0] = LeastOfFirst(budget, prompts[0]);
  budget -= shares[0];
  for (const int i : order) {
    const int more = std::min(budget, prompts[i].num_tokens - shares[i]);
    shares[i] += more;
    budget -= more;
  }
  return shares;
}

bool GetsShare(int budget, std::span<const PromptLeft> prompts, size_t place) {
  if (place == 0) return true;
  int64_t left = budget;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const bool is_before = i < place ? !IsServedBefore(prompts[place], prompts[i])
                                     : IsServedBefore(prompts[i], prompts[place]);
    if (is_before) {
      left -= prompts[i].num_tokens;
    } else if (i == 0) {
      left -= LeastOfFirst(budget, prompts[0]);
    }
  }
  return left > 0;
}

}  // namespace mea
