#pragma once

#include <cstdint>
#include <string_view>

#include "absl/time/time.h"
#include "server/log.h"

namespace mea {

// Progress of long work: one line on stderr that changes in place if a person watches, else a line
// in the log, if there is one, every few seconds. The destructor clears the line.
class ProgressLine {
 public:
  explicit ProgressLine(Log* log = nullptr);
  ~ProgressLine();
  void Show(int64_t bytes_done, int64_t bytes_total);  // of loading
  // Of anything else, "calibrating: 40 % of 512"; on a terminal alone.
  void ShowStage(std::string_view stage, int64_t done, int64_t total);
  // Before other text is written.
  void Clear();

 private:
  Log* const log_;
  const bool terminal_;
  absl::Time last_;
};

}  // namespace mea
