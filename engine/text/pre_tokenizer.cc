#include "engine/text/pre_tokenizer.h"

#include <unicode/uchar.h>

#include <algorithm>

#include "engine/text/utf8.h"
#include "kernels/check.h"

namespace mea {
namespace {

const Regex& Gpt2Pattern() {
  static const Regex pattern = [] {
    absl::StatusOr<Regex> regex = Regex::Compile(
        R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)");
    MEA_CHECK(regex.ok());
    return *std::move(regex);
  }();
  return pattern;
}

bool IsNumeric(char32_t c) { return (U_GET_GC_MASK(static_cast<UChar32>(c)) & U_GC_N_MASK) != 0; }

// Spans of `text` whose matches are the single code points that `is_match` accepts.
template <typename Predicate>
std::vector<TextSpan> SplitCodePoints(std::string_view text, TextWork& work, Predicate is_match) {
  std::vector<TextSpan> spans;
  for (size_t at = 0, size; at < text.size() && work.Go(1); at += size) {
    size = CodePointSize(text[at]);
    if (is_match(CodePointAt(text, at))) {
      spans.push_back({at, at + size, true});
    } else if (!spans.empty() && !spans.back().is_match) {
      spans.back().end += size;
    } else {
      spans.push_back({at, at + size, false});
    }
  }
  return spans;
}

// Joins each match to the span before it, in the given order, unless that span is also a match.
// Walking the spans backwards, "before" is what follows in the text.
template <typename Iterator>
std::vector<TextSpan> JoinMatchesToPrevious(Iterator first, Iterator last) {
  std::vector<TextSpan> joined;
  bool previous_match = false;
  for (; first != last; ++first) {
    if (first->is_match && !previous_match && !joined.empty()) {
      joined.back().begin = std::min(joined.back().begin, first->begin);
      joined.back().end = std::max(joined.back().end, first->end);
    } else {
      joined.push_back(*first);
    }
    previous_match = first->is_match;
  }
  return joined;
}

std::vector<TextSpan> Arrange(SplitBehavior behavior, std::vector<TextSpan> spans) {
  switch (behavior) {
    case SplitBehavior::kIsolated:
      return spans;
    case SplitBehavior::kRemoved:
      spans.erase(std::remove_if(spans.begin(), spans.end(), [](auto& s) { return s.is_match; }),
                  spans.end());
      return spans;
    case SplitBehavior::kMergedWithPrevious:
      return JoinMatchesToPrevious(spans.begin(), spans.end());
    case SplitBehavior::kMergedWithNext: {
      std::vector<TextSpan> joined = JoinMatchesToPrevious(spans.rbegin(), spans.rend());
      std::reverse(joined.begin(), joined.end());
      return joined;
    }
    case SplitBehavior::kContiguous: {
      std::vector<TextSpan> joined;
      for (const TextSpan& span : spans) {
        if (!joined.empty() && joined.back().is_match == span.is_match) {
          joined.back().end = span.end;
        } else {
          joined.push_back(span);
        }
      }
      return joined;
    }
  }
  return spans;
}

}  // namespace

bool PreTokenizer::is_byte_level() const {
  return !steps_.empty() && std::holds_alternative<ByteLevelStep>(steps_.back());
}

void PreTokenizer::Split(std::string_view text, bool at_start, TextWork& work,
                         WordSink sink) const {
  RunFrom(0, {text, at_start}, {work, sink});
}

void PreTokenizer::RunFrom(size_t step, Piece piece, const Way& way) const {
  if (piece.text.empty() || !way.work.Go(1)) return;
  if (step == steps_.size()) return way.sink(piece.text);
  std::visit([&](const auto& s) { Run(s, step, piece, way); }, steps_[step]);
}

void PreTokenizer::RunSpans(size_t step, Piece piece, const std::vector<TextSpan>& spans,
                            const Way& way) const {
  for (const TextSpan& span : spans) {
    if (way.work.stopped()) return;
    RunFrom(
        step,
        {piece.text.substr(span.begin, span.end - span.begin), piece.at_start && span.begin == 0},
        way);
  }
}

void PreTokenizer::Run(const SplitStep& split, size_t step, Piece piece, const Way& way) const {
  std::vector<TextSpan> spans;
  split.pattern.Split(piece.text, way.work, &spans);
  if (split.invert) {
    for (TextSpan& span : spans) span.is_match = !span.is_match;
  }
  RunSpans(step + 1, piece, Arrange(split.behavior, std::move(spans)), way);
}

void PreTokenizer::Run(const DigitsStep& digits, size_t step, Piece piece, const Way& way) const {
  const SplitBehavior behavior =
      digits.individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous;
  RunSpans(step + 1, piece, Arrange(behavior, SplitCodePoints(piece.text, way.work, IsNumeric)),
           way);
}

void PreTokenizer::Run(const ByteLevelStep& byte_level, size_t step, Piece piece,
                       const Way& way) const {
  std::string prefixed;
  if (byte_level.add_prefix_space && piece.text[0] != ' ') {
    prefixed.append(" ").append(piece.text);
    piece.text = prefixed;
  }
  if (!byte_level.use_regex) return RunFrom(step + 1, piece, way);
  std::vector<TextSpan> spans;
  Gpt2Pattern().Split(piece.text, way.work, &spans);
  RunSpans(step + 1, piece, spans, way);
}

void PreTokenizer::Run(const MetaspaceStep& metaspace, size_t step, Piece piece,
                       const Way& way) const {
  using Prepend = MetaspaceStep::Prepend;
  const std::string_view mark = metaspace.replacement;
  std::string text;
  const bool has_mark = piece.text[0] == ' ' || piece.text.substr(0, mark.size()) == mark;
  const bool prepends = metaspace.prepend == Prepend::kAlways ||
                        (metaspace.prepend == Prepend::kFirst && piece.at_start);
  if (prepends && !has_mark) text = mark;
  for (const char c : piece.text) {
    if (!way.work.Go(1)) return;
    if (c == ' ') {
      text += mark;
    } else {
      text += c;
    }
  }
  piece.text = text;
  if (!metaspace.split) return RunFrom(step + 1, piece, way);
  const char32_t mark_code_point = CodePointAt(mark, 0);
  RunSpans(
      step + 1, piece,
      Arrange(SplitBehavior::kMergedWithNext,
              SplitCodePoints(text, way.work, [&](char32_t c) { return c == mark_code_point; })),
      way);
}

}  // namespace mea
