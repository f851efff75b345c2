#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/grammar/grammar.h"
#include "engine/grammar/prepare.h"
#include "engine/text/text_work.h"

namespace mea::grammar {

// The library xgrammar over one vocabulary. Nothing of it is seen outside of its source file, and
// none of its exceptions leaves that. Thread-safe.
class XgrammarLibrary {
 public:
  // `vocabulary` holds the bytes of each token, empty where it stands for no text; tokens beyond it
  // up to `vocab_size` stand for none. INTERNAL where the library takes none of it.
  static absl::StatusOr<std::unique_ptr<XgrammarLibrary>> Create(
      const std::vector<std::string>& vocabulary, int vocab_size);
  virtual ~XgrammarLibrary() = default;

  // In the calling thread. INVALID_ARGUMENT with one line; RESOURCE_EXHAUSTED where it grows too
  // large; what `still_wanted` answers, which is asked every few milliseconds.
  virtual absl::StatusOr<std::shared_ptr<const Grammar>> Compile(
      const PreparedGrammar& prepared, StillWanted still_wanted) const = 0;
};

}  // namespace mea::grammar
