#include "engine/storage/mismatch.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace mea {
namespace {

constexpr size_t kMaxShownBytes = 80;

}  // namespace

std::string Mismatch(const std::string& file, const std::string& what, const std::string& expected,
                     const std::string& found) {
  return absl::StrCat(file, ": ", what, ": expected ", expected, ", found ", found);
}

std::string ShownName(const std::string& name) {
  return absl::StrCat("\"", Shortened(absl::CHexEscape(name)), "\"");
}

std::string Shortened(std::string text) {
  if (text.size() <= kMaxShownBytes) return text;
  return absl::StrCat(text.substr(0, kMaxShownBytes), "...");
}

std::string Grouped(int64_t number) {
  const std::string digits = absl::StrCat(number);
  std::string grouped;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) grouped += ',';
    grouped += digits[i];
  }
  return grouped;
}

}  // namespace mea
