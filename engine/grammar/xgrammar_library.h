#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/grammar/grammar.h"
#include "engine/grammar/prepare.h"
#include "engine/text/text_work.h"

namespace mea::grammar {

// The library xgrammar over one vocabulary. Only its source file sees the library, and no exception
// leaves that file. Thread-safe.
class XgrammarLibrary {
 public:
  // `vocabulary` holds the bytes of each token, empty if it stands for no text; tokens beyond it up
  // to `vocab_size` stand for none. INTERNAL if the library refuses it.
  static absl::StatusOr<std::unique_ptr<XgrammarLibrary>> Create(
      const std::vector<std::string>& vocabulary, int vocab_size);
  virtual ~XgrammarLibrary() = default;

  // Compiles in the calling thread. INVALID_ARGUMENT with one line; RESOURCE_EXHAUSTED if it grows
  // too large; or the error of `still_wanted`, which is called every few milliseconds.
  virtual absl::StatusOr<std::shared_ptr<const Grammar>> Compile(
      const PreparedGrammar& prepared, StillWanted still_wanted) const = 0;
};

}  // namespace mea::grammar
