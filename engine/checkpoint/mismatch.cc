#include "engine/checkpoint/mismatch.h"

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

}  // namespace mea
