#include "engine/storage/mismatch.h"

#include <nlohmann/json.hpp>

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

std::string ShownName(std::string_view name) {
  using nlohmann::json;
  std::string shown(name.substr(0, kMaxShownBytes));
  if (name.size() > kMaxShownBytes) {
    const auto in_code_point = [&] { return (name[shown.size()] & 0xc0) == 0x80; };
    for (int i = 0; i < 3 && in_code_point(); ++i) shown.pop_back();
    shown += "...";
  }
  const json text(shown);
  std::string quoted = text.dump(-1, ' ', /*ensure_ascii=*/false, json::error_handler_t::ignore);
  if (quoted == text.dump(-1, ' ', false, json::error_handler_t::replace)) return quoted;
  return absl::StrCat("\"", absl::CHexEscape(shown), "\"");  // no UTF-8: every byte counts
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
