#include "engine/text/normalizer.h"

#include <unicode/normalizer2.h>
#include <unicode/uchar.h>

#include <optional>

#include "engine/text/utf8.h"
#include "kernels/check.h"

namespace mea {
namespace {

const icu::Normalizer2& IcuNormalizer(UnicodeForm form) {
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* normalizer = nullptr;
  switch (form) {
    case UnicodeForm::kNfc:
      normalizer = icu::Normalizer2::getNFCInstance(error);
      break;
    case UnicodeForm::kNfd:
      normalizer = icu::Normalizer2::getNFDInstance(error);
      break;
    case UnicodeForm::kNfkc:
      normalizer = icu::Normalizer2::getNFKCInstance(error);
      break;
    case UnicodeForm::kNfkd:
      normalizer = icu::Normalizer2::getNFKDInstance(error);
      break;
  }
  MEA_CHECK(U_SUCCESS(error));
  return *normalizer;
}

// Each step gives its result, or nothing where the text stays as it is.
std::optional<std::string> Run(UnicodeForm form, std::string_view text) {
  const icu::Normalizer2& normalizer = IcuNormalizer(form);
  UErrorCode error = U_ZERO_ERROR;
  const icu::StringPiece piece(text.data(), static_cast<int32_t>(text.size()));
  if (normalizer.isNormalizedUTF8(piece, error) && U_SUCCESS(error)) return std::nullopt;
  std::string result;
  icu::StringByteSink<std::string> sink(&result);
  error = U_ZERO_ERROR;
  normalizer.normalizeUTF8(0, piece, sink, nullptr, error);
  MEA_CHECK(U_SUCCESS(error));
  return result;
}

std::optional<std::string> Run(const Prepend& prepend, std::string_view text) {
  if (text.empty()) return std::nullopt;
  return prepend.prefix + std::string(text);
}

std::optional<std::string> Run(const Replace& replace, std::string_view text) {
  return ReplaceAll(replace, text);
}

std::optional<std::string> Run(Lowercase, std::string_view text) {
  std::string lower;
  for (size_t at = 0; at < text.size(); at += CodePointSize(text[at])) {
    const char32_t c = CodePointAt(text, at);
    if (c == 0x130) {  // the one code point whose lower case is two
      lower += "i\u0307";
    } else {
      AppendUtf8(u_tolower(c), &lower);
    }
  }
  return lower;
}

std::optional<std::string> Run(const Strip& strip, std::string_view text) {
  const auto is_space = [&](size_t at) { return u_isUWhiteSpace(CodePointAt(text, at)); };
  while (strip.left && !text.empty() && is_space(0)) text.remove_prefix(CodePointSize(text[0]));
  while (strip.right && !text.empty() && is_space(CodePointBefore(text, text.size()))) {
    text = text.substr(0, CodePointBefore(text, text.size()));
  }
  return std::string(text);
}

}  // namespace

std::string ReplaceAll(const Replace& replace, std::string_view text) {
  std::vector<TextSpan> spans;
  replace.pattern.Split(text, &spans);
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

std::string_view Normalizer::Apply(std::string_view text, std::string* buffer) const {
  for (const NormalizerStep& step : steps_) {
    std::optional<std::string> changed =
        std::visit([&](const auto& s) { return Run(s, text); }, step);
    if (!changed.has_value()) continue;
    *buffer = *std::move(changed);
    text = *buffer;
  }
  return text;
}

}  // namespace mea
