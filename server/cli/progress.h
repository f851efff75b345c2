#pragma once

#include <cstdint>

#include "absl/time/time.h"

namespace mea {

// Progress of loading on stderr: one line that changes in place where a person watches, else a line
// every few seconds. The destructor clears the line.
class ProgressLine {
 public:
  ProgressLine();
  ~ProgressLine();
  void Show(int64_t bytes_done, int64_t bytes_total);

 private:
  const bool terminal_;
  absl::Time last_;
};

}  // namespace mea
