#include "engine/grammar_state.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

bool HasTokens(std::span<const uint32_t> mask) {
  return std::any_of(mask.begin(), mask.end(), [](uint32_t word) { return word != 0; });
}

}  // namespace

GrammarState::GrammarState(const Grammar& grammar, std::vector<int32_t> stop_tokens)
    : stop_tokens_(std::move(stop_tokens)), matcher_(grammar.NewMatcher(stop_tokens_)) {}

absl::Status GrammarState::FillMask(bool may_stop, std::span<uint32_t> mask) {
  MEA_RETURN_IF_ERROR(matcher_->FillMask(mask));
  if (!HasTokens(mask)) {
    return absl::FailedPreconditionError(
        "structured output cannot continue: no token of the vocabulary fits its grammar here");
  }
  if (may_stop) return absl::OkStatus();
  std::vector<int32_t> cleared;
  for (const int32_t stop : stop_tokens_) {
    uint32_t& word = mask[stop / kMaskBits];
    const uint32_t bit = uint32_t{1} << stop % kMaskBits;
    if ((word & bit) != 0) cleared.push_back(stop);
    word &= ~bit;
  }
  if (HasTokens(mask)) return absl::OkStatus();
  for (const int32_t stop : cleared) mask[stop / kMaskBits] |= uint32_t{1} << stop % kMaskBits;
  return absl::OkStatus();
}

absl::StatusOr<bool> GrammarState::Accept(int32_t token, bool is_stop) {
  const bool is_accepted = matcher_->Accept(token);
  if (is_stop) return true;
  if (!is_accepted) {
    return absl::FailedPreconditionError(
        absl::StrCat("structured output: token ", token, " was drawn against its grammar"));
  }
  return stop_tokens_.empty() && matcher_->is_finished();
}

}  // namespace mea
