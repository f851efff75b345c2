#include "server/text_budget.h"

#include "absl/strings/str_cat.h"
#include "engine/refusal.h"

namespace mea {

absl::StatusOr<TextLease> TextBudget::Take(int64_t bytes) {
  const bool large = bytes > kLargeTextBytes;
  {
    absl::MutexLock lock(&mu_);
    if (taken_ + bytes > kMaxTextBytes ||
        (large && taken_by_large_ + bytes > kMaxLargeTextsBytes)) {
      return ResourceExhausted(
          absl::StrCat("texts of ", taken_, " bytes wait, there is no room for ", bytes, " more"),
          "TEXT_BUDGET_FULL", kRetryDelay);
    }
    taken_ += bytes;
    if (large) taken_by_large_ += bytes;
  }
  return TextLease{
      std::shared_ptr<void>(
          this, [bytes](void* self) { static_cast<TextBudget*>(self)->GiveBack(bytes); }),
      bytes};
}

void TextBudget::GiveBack(int64_t bytes) {
  absl::MutexLock lock(&mu_);
  taken_ -= bytes;
  if (bytes > kLargeTextBytes) taken_by_large_ -= bytes;
}

int64_t TextBudget::taken() const {
  absl::MutexLock lock(&mu_);
  return taken_;
}

}  // namespace mea
