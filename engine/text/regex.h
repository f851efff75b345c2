#pragma once

#include <absl/status/statusor.h>

#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

#include "engine/text/text_work.h"

namespace mea {

// Part of a text, in bytes, and whether it matched; the parts of a text follow one another.
struct TextSpan {
  size_t begin, end;
  bool is_match;
};

// A compiled pattern of tokenizer.json. Immutable; used by any number of threads.
class Regex {
 public:
  // Refuses, naming the part that it does not understand.
  static absl::StatusOr<Regex> Compile(std::string_view pattern);
  // Matches `text` itself, which is not empty.
  static Regex Literal(std::string_view text);

  // All of `text`, valid UTF-8, as matches and the text between them. Empty matches have a part of
  // their own. If the work is stopped: the parts found so far, and the rest as one.
  void Split(std::string_view text, TextWork& work, std::vector<TextSpan>* spans) const;

 private:
  struct Code;

  explicit Regex(std::shared_ptr<const Code> code) : code_(std::move(code)) {}

  std::shared_ptr<const Code> code_;  // shared so that a Regex is a value; never changes
};

}  // namespace mea
