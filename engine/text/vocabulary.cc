#include "engine/text/vocabulary.h"

#include <absl/strings/ascii.h>

#include <array>

#include "engine/text/utf8.h"

namespace mea {
namespace {

bool StandsForItself(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

struct ByteAlphabet {
  static constexpr int kEnd = 0x100 + 68;

  ByteAlphabet() {
    byte_of.fill(-1);
    int next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      code_points[byte] = StandsForItself(byte) ? byte : next++;
      byte_of[code_points[byte]] = byte;
    }
  }

  std::array<int, 256> code_points;
  std::array<int, kEnd> byte_of;  // by code point, -1 where none
};

const ByteAlphabet& Alphabet() {
  static const ByteAlphabet alphabet;
  return alphabet;
}

int HexDigit(char c) {
  if (!absl::ascii_isxdigit(c)) return -1;
  return absl::ascii_isdigit(c) ? c - '0' : absl::ascii_tolower(c) - 'a' + 10;
}

}  // namespace

bool Vocabulary::Add(const std::string& token, int32_t id) {
  if (Has(id)) return *tokens_[id] == token;
  if (!ids_.try_emplace(token, id).second) return false;
  if (id >= size()) tokens_.resize(id + 1);
  tokens_[id] = token;
  return true;
}

std::optional<int32_t> Vocabulary::IdOf(std::string_view token) const {
  const auto it = ids_.find(token);
  if (it == ids_.end()) return std::nullopt;
  return it->second;
}

const std::string& Vocabulary::TokenOf(int32_t id) const {
  static const std::string none;
  return Has(id) ? *tokens_[id] : none;
}

std::string ByteLevelCodePoint(uint8_t byte) {
  std::string text;
  AppendUtf8(Alphabet().code_points[byte], &text);
  return text;
}

std::optional<std::string> ByteLevelBytes(std::string_view token) {
  std::string bytes;
  for (size_t at = 0; at < token.size(); at += CodePointSize(token[at])) {
    const char32_t c = CodePointAt(token, at);
    if (c >= ByteAlphabet::kEnd || Alphabet().byte_of[c] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(Alphabet().byte_of[c]));
  }
  return bytes;
}

std::string ByteFallbackToken(uint8_t byte) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  return std::string("<0x") + kDigits[byte >> 4] + kDigits[byte & 15] + ">";
}

std::optional<uint8_t> ByteFallbackByte(std::string_view token) {
  if (token.size() != 6 || token.substr(0, 3) != "<0x" || token[5] != '>') return std::nullopt;
  const int high = HexDigit(token[3]), low = HexDigit(token[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<uint8_t>(high << 4 | low);
}

}  // namespace mea
