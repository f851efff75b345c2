#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace mea {

// What is left to compute of a prompt.
struct PromptLeft {
  int priority = 0;
  int num_tokens = 0;
};

// Whether `a` is served before `b` if neither is the first in turn: a short prompt does not wait
// for a long one of its priority.
inline bool IsServedBefore(const PromptLeft& a, const PromptLeft& b) {
  return a.priority != b.priority ? a.priority > b.priority : a.num_tokens < b.num_tokens;
}

// Divides a step's budget among `prompts`, which are in the order of their turns. The first gets at
// least a quarter, so it ends however many short prompts come. The rest goes to the prompts in the
// order of IsServedBefore, equals in the order of their turns.
std::vector<int> DividePromptBudget(int budget, std::span<const PromptLeft> prompts);

// Whether DividePromptBudget gives prompts[place] any of a budget above 0, in linear time.
bool GetsShare(int budget, std::span<const PromptLeft> prompts, size_t place);

}  // namespace mea
