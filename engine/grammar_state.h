#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/grammar/grammar.h"

namespace mea {

// How one completion follows its grammar. Engine thread only.
class GrammarState {
 public:
  // `stop_tokens` end the completion where the grammar allows an end; without any, it ends as soon
  // as nothing more can follow.
  GrammarState(const Grammar& grammar, std::vector<int32_t> stop_tokens);

  // Which tokens can be drawn next. A sequence that must not stop yet may stop only if nothing else
  // can follow. FAILED_PRECONDITION if no token can be drawn at all.
  absl::Status FillMask(bool may_stop, std::span<uint32_t> mask);
  // Advances by the token that was drawn; returns whether the completion has ended with it.
  // FAILED_PRECONDITION if the grammar does not allow the token.
  absl::StatusOr<bool> Accept(int32_t token, bool is_stop);

 private:
  const std::vector<int32_t> stop_tokens_;
  std::unique_ptr<GrammarMatcher> matcher_;
};

}  // namespace mea
