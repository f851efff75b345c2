#pragma once

#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mea {

// Lets a map of std::string be looked up with a std::string_view.
struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};

// Tokens as tokenizer.json writes them, and their ids. Ids may have holes.
class Vocabulary {
 public:
  static constexpr int32_t kMaxId = (1 << 24) - 1;

  // False, and nothing is added, if token or id has another partner already.
  bool Add(const std::string& token, int32_t id);

  // One more than the largest id.
  int32_t size() const { return static_cast<int32_t>(tokens_.size()); }
  bool Has(int32_t id) const { return id >= 0 && id < size() && tokens_[id].has_value(); }
  std::optional<int32_t> IdOf(std::string_view token) const;
  const std::string& TokenOf(int32_t id) const;  // empty for a hole

 private:
  std::vector<std::optional<std::string>> tokens_;  // by id
  absl::flat_hash_map<std::string, int32_t, StringHash, std::equal_to<>> ids_;
};

// Byte-level vocabularies write each byte as one printable code point: most Latin-1 letters and
// punctuation as themselves, the other 68 bytes as U+0100 and up. (GPT-2, bytes_to_unicode)
std::string ByteLevelCodePoint(uint8_t byte);
// The bytes that `token` stands for, if all its code points are such.
std::optional<std::string> ByteLevelBytes(std::string_view token);

// SentencePiece vocabularies write a byte that no token covers as "<0x0A>".
std::string ByteFallbackToken(uint8_t byte);
std::optional<uint8_t> ByteFallbackByte(std::string_view token);

}  // namespace mea
