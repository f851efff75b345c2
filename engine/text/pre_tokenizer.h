#pragma once

#include <absl/functional/function_ref.h>

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "engine/text/regex.h"
#include "engine/text/text_work.h"

namespace mea {

// What happens to the parts that a Split finds (Hugging Face: SplitDelimiterBehavior).
enum class SplitBehavior { kIsolated, kRemoved, kMergedWithPrevious, kMergedWithNext, kContiguous };

// The steps of a pre-tokenizer, named as in tokenizer.json.
struct SplitStep {
  Regex pattern;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;  // the text between the matches counts as match
};
struct DigitsStep {
  bool individual = false;  // each digit by itself, or runs of them
};
struct ByteLevelStep {
  bool add_prefix_space = false;
  bool use_regex = false;  // GPT-2's pattern
};
struct MetaspaceStep {
  enum class Prepend { kAlways, kFirst, kNever };
  std::string replacement;  // one code point, "▁"
  Prepend prepend = Prepend::kAlways;
  bool split = true;  // before every replacement
};
using PreTokenizerStep = std::variant<SplitStep, DigitsStep, ByteLevelStep, MetaspaceStep>;

// Splits a normalized text into the words within which BPE merges. Immutable.
class PreTokenizer {
 public:
  using WordSink = absl::FunctionRef<void(std::string_view word)>;

  PreTokenizer() = default;
  explicit PreTokenizer(std::vector<PreTokenizerStep> steps) : steps_(std::move(steps)) {}

  // Gives `sink` the words of `text` in order; each is valid only during the call. `at_start`:
  // nothing comes before this text, so Prepend::kFirst prepends.
  void Split(std::string_view text, bool at_start, TextWork& work, WordSink sink) const;

  // Whether words are bytes to the model, as a ByteLevel step says; it is always the last one.
  bool is_byte_level() const;

 private:
  struct Piece {
    std::string_view text;
    bool at_start;
  };
  struct Way {  // of all pieces alike
    TextWork& work;
    WordSink sink;
  };

  void RunFrom(size_t step, Piece piece, const Way& way) const;
  void RunSpans(size_t step, Piece piece, const std::vector<TextSpan>& spans, const Way& way) const;

  void Run(const SplitStep& split, size_t step, Piece piece, const Way& way) const;
  void Run(const DigitsStep& digits, size_t step, Piece piece, const Way& way) const;
  void Run(const ByteLevelStep& byte_level, size_t step, Piece piece, const Way& way) const;
  void Run(const MetaspaceStep& metaspace, size_t step, Piece piece, const Way& way) const;

  std::vector<PreTokenizerStep> steps_;
};

}  // namespace mea
