#pragma once

#include <cstdint>
#include <string_view>

#include "absl/time/time.h"

namespace mea {

// Progress of what takes long: one line on stderr that changes in place where a person watches,
// else a line every few seconds. The destructor clears the line.
class ProgressLine {
 public:
  ProgressLine();
  ~ProgressLine();
  // "calibrating: 40 % of 512".
  void ShowStage(std::string_view stage, int64_t done, int64_t total);
  // Before other text is written.
  void Clear();

 private:
  const bool terminal_;
  absl::Time last_;
};

}  // namespace mea
