#include "engine/text/unicode_form.h"

#include <unicode/normalizer2.h>

#include <algorithm>
#include <array>
#include <vector>

#include "engine/text/utf8.h"
#include "kernels/check.h"

namespace mea {
namespace {

// ICU sorts the marks of a run by insertion, which is quadratic. So it only gets pieces with short
// runs; longer runs are sorted here.
constexpr size_t kMaxIcuBytes = 512;

struct CodePoint {
  char32_t value;
  uint8_t combining_class;  // 0: a starter
};

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

// Where a piece that begins at `begin` may end: its normal form must not depend on its neighbours.
bool IsBoundary(const icu::Normalizer2& normalizer, std::string_view text, size_t at) {
  return at == text.size() ||
         normalizer.hasBoundaryBefore(static_cast<UChar32>(CodePointAt(text, at)));
}

// The last boundary within kMaxIcuBytes, or `begin` where there is none.
size_t LastBoundary(const icu::Normalizer2& normalizer, std::string_view text, size_t begin) {
  if (text.size() - begin <= kMaxIcuBytes) return text.size();
  size_t end = CodePointBefore(text, begin + kMaxIcuBytes + 1);
  while (end > begin && !IsBoundary(normalizer, text, end)) end = CodePointBefore(text, end);
  return end;
}

size_t NextBoundary(const icu::Normalizer2& normalizer, std::string_view text, size_t begin,
                    TextWork& work) {
  size_t end = begin;
  do end += CodePointSize(text[end]);
  while (!IsBoundary(normalizer, text, end) && work.Go(1));
  return end;
}

// The piece normalized by ICU; no result if it does not change.
std::optional<std::string> ByIcu(const icu::Normalizer2& normalizer, std::string_view text) {
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

std::vector<CodePoint> Decompose(const icu::Normalizer2& normalizer, std::string_view text,
                                 TextWork& work) {
  std::vector<CodePoint> result;
  const auto append = [&](UChar32 c) {
    result.push_back({static_cast<char32_t>(c), normalizer.getCombiningClass(c)});
  };
  icu::UnicodeString decomposed;
  for (size_t at = 0; at < text.size() && work.Go(1); at += CodePointSize(text[at])) {
    const auto c = static_cast<UChar32>(CodePointAt(text, at));
    if (!normalizer.getDecomposition(c, decomposed)) {
      append(c);
      continue;
    }
    for (int32_t i = 0; i < decomposed.length(); i = decomposed.moveIndex32(i, 1)) {
      append(decomposed.char32At(i));
    }
  }
  return result;
}

// The marks from `begin` to `end`, stably sorted by class.
void OrderMarks(size_t begin, size_t end, std::vector<CodePoint>& text, TextWork& work) {
  std::array<size_t, 257> first{};  // of the marks of a class, among those of the run
  for (size_t i = begin; i < end; ++i) ++first[text[i].combining_class + 1];
  for (size_t c = 1; c < first.size(); ++c) first[c] += first[c - 1];
  std::vector<CodePoint> ordered(end - begin);
  for (size_t i = begin; i < end && work.Go(1); ++i) {
    ordered[first[text[i].combining_class]++] = text[i];
  }
  std::copy(ordered.begin(), ordered.end(), text.begin() + static_cast<std::ptrdiff_t>(begin));
}

// Canonical ordering, run by run of marks.
void Order(std::vector<CodePoint>& text, TextWork& work) {
  for (size_t begin = 0; begin < text.size();) {
    bool in_order = true;
    size_t end = begin;
    for (; end < text.size() && text[end].combining_class != 0 && work.Go(1); ++end) {
      in_order &= end == begin || text[end - 1].combining_class <= text[end].combining_class;
    }
    if (!in_order) OrderMarks(begin, end, text, work);
    begin = end + 1;  // behind the starter
  }
}

// Canonical composition, in place.
void Compose(const icu::Normalizer2& normalizer, std::vector<CodePoint>& text, TextWork& work) {
  size_t size = 0;
  std::optional<size_t> starter;
  for (size_t i = 0; i < text.size() && work.Go(1); ++i) {
    const CodePoint c = text[i];
    // Blocked by a code point in between: a starter, or a mark of the same class.
    const bool next_to_it = starter.has_value() && *starter + 1 == size;
    const bool reaches =
        starter.has_value() && (next_to_it || text[size - 1].combining_class < c.combining_class);
    if (reaches) {
      const UChar32 composite = normalizer.composePair(static_cast<UChar32>(text[*starter].value),
                                                       static_cast<UChar32>(c.value));
      if (composite >= 0) {
        text[*starter].value = static_cast<char32_t>(composite);
        continue;
      }
    }
    if (c.combining_class == 0) starter = size;
    text[size++] = c;
  }
  text.resize(size);
}

}  // namespace

std::string RunInUnicodeForm(UnicodeForm form, std::string_view run, TextWork& work) {
  const icu::Normalizer2& normalizer = IcuNormalizer(form);
  std::vector<CodePoint> code_points = Decompose(normalizer, run, work);
  Order(code_points, work);
  if (form == UnicodeForm::kNfc || form == UnicodeForm::kNfkc) {
    Compose(normalizer, code_points, work);
  }
  std::string result;
  for (const CodePoint& c : code_points) {
    if (!work.Go(1)) break;
    AppendUtf8(c.value, &result);
  }
  return result;
}

std::optional<std::string> InUnicodeForm(UnicodeForm form, std::string_view text, TextWork& work) {
  const icu::Normalizer2& normalizer = IcuNormalizer(form);
  std::optional<std::string> result;
  for (size_t begin = 0, end = 0; begin < text.size(); begin = end) {
    end = LastBoundary(normalizer, text, begin);
    const bool by_icu = end > begin;
    if (!by_icu) end = NextBoundary(normalizer, text, begin, work);
    const std::string_view piece = text.substr(begin, end - begin);
    if (!work.Go(static_cast<int64_t>(piece.size()))) break;
    const std::optional<std::string> changed =
        by_icu ? ByIcu(normalizer, piece) : RunInUnicodeForm(form, piece, work);
    if (changed.has_value() && !result.has_value()) result = text.substr(0, begin);
    if (result.has_value()) result->append(changed.has_value() ? *changed : piece);
  }
  return result;
}

}  // namespace mea
