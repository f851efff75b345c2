#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "engine/text/regex.h"
#include "engine/text/text_work.h"
#include "engine/text/unicode_form.h"

namespace mea {

// The steps of a normalizer, named as in tokenizer.json.
struct Prepend {
  std::string prefix;  // before every text that is not empty
};
struct Replace {
  Regex pattern;
  std::string content;  // literal
};
struct Lowercase {};
struct Strip {  // white space
  bool left, right;
};
using NormalizerStep = std::variant<UnicodeForm, Prepend, Replace, Lowercase, Strip>;

std::string ReplaceAll(const Replace& replace, std::string_view text, TextWork& work);

// Rewrites a text before it is split. Immutable.
class Normalizer {
 public:
  Normalizer() = default;
  explicit Normalizer(std::vector<NormalizerStep> steps) : steps_(std::move(steps)) {}

  // The normalized `text`, stored in `buffer` unless nothing changed. Valid UTF-8 in and out.
  std::string_view Apply(std::string_view text, std::string* buffer, TextWork& work) const;
  // The same without the steps that concern the start or the end of a text: for a part of one.
  Normalizer WithoutEnds() const;

 private:
  std::vector<NormalizerStep> steps_;
};

}  // namespace mea
