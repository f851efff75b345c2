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
  // `stop_tokens` end the completion where the grammar lets it end; without any it ends as soon as
  // nothing more can follow.
  GrammarState(const Grammar& grammar, std::vector<int32_t> stop_tokens);

  // Which tokens can be drawn next. One who must not stop yet stops only where nothing else can
  // follow. FAILED_PRECONDITION where no token can be drawn at all.
  absl::Status FillMask(bool may_stop, std::span<uint32_t> mask);
  // The token that was drawn; whether the completion has ended with it. FAILED_PRECONDITION where
  // the grammar does not allow it.
  absl::StatusOr<bool> Accept(int32_t token, bool is_stop);

 private:
  const std::vector<int32_t> stop_tokens_;
  std::unique_ptr<GrammarMatcher> matcher_;
};

}  // namespace mea
