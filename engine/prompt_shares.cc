#include "engine/prompt_shares.h"

#include <algorithm>
#include <numeric>

namespace mea {

std::vector<int> DividePromptBudget(int budget, std::span<const PromptLeft> prompts) {
  std::vector<int> shares(prompts.size(), 0);
  if (prompts.empty()) return shares;
  std::vector<int> order(prompts.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order,
                           [&](int a, int b) { return IsServedBefore(prompts[a], prompts[b]); });
  shares[0] = std::min((budget + 3) / 4, prompts[0].num_tokens);
  budget -= shares[0];
  for (const int i : order) {
    const int more = std::min(budget, prompts[i].num_tokens - shares[i]);
    shares[i] += more;
    budget -= more;
  }
  return shares;
}

}  // namespace mea
