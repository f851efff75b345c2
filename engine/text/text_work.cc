#include "engine/text/text_work.h"

#include <absl/strings/str_cat.h>

namespace mea {

bool TextWork::Check() {
  if (stopped()) return false;
  if (still_wanted_.has_value()) status_ = (*still_wanted_)();
  if (status_.ok() && steps_ > max_steps_) {
    status_ =
        absl::InvalidArgumentError(absl::StrCat("takes more than ", max_steps_, " steps"));
  }
  if (stopped()) return false;
  next_check_ = steps_ + kStepsBetweenChecks;
  return true;
}

}  // namespace mea
