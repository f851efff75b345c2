#include "engine/text/normalizer.h"

#include <unicode/uchar.h>

#include <optional>

#include "engine/text/utf8.h"

namespace mea {
namespace {

// Each step returns its result, or nothing if the text does not change.
std::optional<std::string> Run(UnicodeForm form, std::string_view text, TextWork& work) {
  return InUnicodeForm(form, text, work);
}

std::optional<std::string> Run(const Prepend& prepend, std::string_view text, TextWork& /*work*/) {
  if (text.empty()) return std::nullopt;
  return prepend.prefix + std::string(text);
}

std::optional<std::string> Run(const Replace& replace, std::string_view text, TextWork& work) {
  return ReplaceAll(replace, text, work);
}

std::optional<std::string> Run(Lowercase, std::string_view text, TextWork& work) {
  std::string lower;
  for (size_t at = 0; at < text.size() && work.Go(1); at += CodePointSize(text[at])) {
    const char32_t c = CodePointAt(text, at);
    if (c == 0x130) {  // the one code point whose lower case is two
      lower += "i\u0307";
    } else {
      AppendUtf8(u_tolower(c), &lower);
    }
  }
  return lower;
}

std::optional<std::string> Run(const Strip& strip, std::string_view text, TextWork& work) {
  const auto is_space = [&](size_t at) { return u_isUWhiteSpace(CodePointAt(text, at)); };
  while (strip.left && !text.empty() && is_space(0) && work.Go(1)) {
    text.remove_prefix(CodePointSize(text[0]));
  }
  while (strip.right && !text.empty() && is_space(CodePointBefore(text, text.size())) &&
         work.Go(1)) {
    text = text.substr(0, CodePointBefore(text, text.size()));
  }
  return std::string(text);
}

}  // namespace

std::string ReplaceAll(const Replace& replace, std::string_view text, TextWork& work) {
  std::vector<TextSpan> spans;
  replace.pattern.Split(text, work, &spans);
  std::string result;
  for (const TextSpan& span : spans) {
    result += span.is_match ? std::string_view(replace.content)
                            : text.substr(span.begin, span.end - span.begin);
  }
  return result;
}

Normalizer Normalizer::WithoutEnds() const {
  std::vector<NormalizerStep> steps;
  for (const NormalizerStep& step : steps_) {
    const bool at_end =
        std::holds_alternative<Prepend>(step) || std::holds_alternative<Strip>(step);
    if (!at_end) steps.push_back(step);
  }
  return Normalizer(std::move(steps));
}

std::string_view Normalizer::Apply(std::string_view text, std::string* buffer,
                                   TextWork& work) const {
  for (const NormalizerStep& step : steps_) {
    std::optional<std::string> changed =
        std::visit([&](const auto& s) { return Run(s, text, work); }, step);
    if (work.stopped()) return {};
    if (!changed.has_value()) continue;
    *buffer = *std::move(changed);
    text = *buffer;
  }
  return text;
}

}  // namespace mea
