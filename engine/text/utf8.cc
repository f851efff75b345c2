#include "engine/text/utf8.h"

#include <cstdint>
#include <cstring>

namespace mea {
namespace {

struct Lead {
  int size;           // of the whole code point, 0 for a byte that begins none
  uint8_t low, high;  // bounds of the second byte (Unicode 3.9, table 3-7)
};

Lead LeadOf(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xc2) return {0, 0, 0};
  if (byte < 0xe0) return {2, 0x80, 0xbf};
  if (byte == 0xe0) return {3, 0xa0, 0xbf};
  if (byte == 0xed) return {3, 0x80, 0x9f};
  if (byte < 0xf0) return {3, 0x80, 0xbf};
  if (byte == 0xf0) return {4, 0x90, 0xbf};
  if (byte < 0xf4) return {4, 0x80, 0xbf};
  if (byte == 0xf4) return {4, 0x80, 0x8f};
  return {0, 0, 0};
}

// Bytes below 0x80 at the start of the text, counted eight at a time.
size_t AsciiPrefix(std::string_view text) {
  size_t n = 0;
  for (uint64_t word; n + sizeof(word) <= text.size(); n += sizeof(word)) {
    std::memcpy(&word, text.data() + n, sizeof(word));
    if (word & 0x8080808080808080u) break;
  }
  while (n < text.size() && static_cast<uint8_t>(text[n]) < 0x80) ++n;
  return n;
}

}  // namespace

Utf8Unit FirstUtf8Unit(std::string_view text) {
  const auto byte = [&](int i) { return static_cast<uint8_t>(text[i]); };
  const Lead lead = LeadOf(byte(0));
  if (lead.size == 0) return {.size = 1};
  if (lead.size == 1) return {.size = 1, .valid = true, .code_point = byte(0)};
  char32_t code_point = byte(0) & (0x7f >> lead.size);
  for (int i = 1; i < lead.size; ++i) {
    if (i == static_cast<int>(text.size())) return {.size = i, .cut_off = true};
    const uint8_t low = i == 1 ? lead.low : 0x80, high = i == 1 ? lead.high : 0xbf;
    if (byte(i) < low || byte(i) > high) return {.size = i};
    code_point = code_point << 6 | (byte(i) & 0x3f);
  }
  return {.size = lead.size, .valid = true, .code_point = code_point};
}

bool IsValidUtf8(std::string_view text) {
  for (;;) {
    text.remove_prefix(AsciiPrefix(text));
    if (text.empty()) return true;
    const Utf8Unit unit = FirstUtf8Unit(text);
    if (!unit.valid) return false;
    text.remove_prefix(unit.size);
  }
}

std::string ReplaceInvalidUtf8(std::string_view bytes) {
  std::string text;
  Utf8Assembler assembler;
  assembler.Push(bytes, &text);
  assembler.Finish(&text);
  return text;
}

void AppendUtf8(char32_t c, std::string* text) {
  const auto tail = [&](int shift) { text->push_back(char(0x80 | (c >> shift & 0x3f))); };
  if (c < 0x80) {
    text->push_back(char(c));
  } else if (c < 0x800) {
    text->push_back(char(0xc0 | c >> 6));
    tail(0);
  } else if (c < 0x10000) {
    text->push_back(char(0xe0 | c >> 12));
    tail(6);
    tail(0);
  } else {
    text->push_back(char(0xf0 | c >> 18));
    tail(12);
    tail(6);
    tail(0);
  }
}

void Utf8Assembler::Push(std::string_view bytes, std::string* text) {
  // The waiting bytes are finished one at a time, so that a long text is never copied for them.
  while (!pending_.empty() && !bytes.empty()) {
    pending_.push_back(bytes[0]);
    const Utf8Unit unit = FirstUtf8Unit(pending_);
    if (!unit.valid && !unit.cut_off) {  // the byte just added does not belong to them
      text->append(kReplacementCharacter);
      pending_.clear();
      continue;
    }
    bytes.remove_prefix(1);
    if (unit.valid) {
      text->append(pending_);
      pending_.clear();
    }
  }
  while (!bytes.empty()) {
    const size_t ascii = AsciiPrefix(bytes);
    text->append(bytes.substr(0, ascii));
    bytes.remove_prefix(ascii);
    if (bytes.empty()) return;
    const Utf8Unit unit = FirstUtf8Unit(bytes);
    if (unit.cut_off) {
      pending_ = bytes;
      return;
    }
    text->append(unit.valid ? bytes.substr(0, unit.size) : kReplacementCharacter);
    bytes.remove_prefix(unit.size);
  }
}

void Utf8Assembler::Finish(std::string* text) {
  if (!pending_.empty()) text->append(kReplacementCharacter);
  pending_.clear();
}

}  // namespace mea
