#pragma once

#include <cstdint>

#include "absl/time/time.h"
#include "server/log.h"

namespace mea {

// Progress of loading: one line on stderr that changes in place where a person watches, else a line
// of the log, where there is one, every few seconds. The destructor clears the line.
class ProgressLine {
 public:
  explicit ProgressLine(Log* log = nullptr);
  ~ProgressLine();
  void Show(int64_t bytes_done, int64_t bytes_total);

 private:
  Log* const log_;
  const bool terminal_;
  absl::Time last_;
};

}  // namespace mea
