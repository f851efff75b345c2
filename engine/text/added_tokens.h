#pragma once

#include <absl/functional/function_ref.h>

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/text/text_work.h"

namespace mea {

// A token that is found in the text itself, before the text is split into words.
struct AddedToken {
  std::string content;  // never empty
  int32_t id = 0;
  bool special = false;
  bool single_word = false;             // not within a word
  bool lstrip = false, rstrip = false;  // also takes the surrounding white space
  bool normalized = false;              // looked for in the normalized text
};

// Bytes [first, second) of a text.
using TextRange = std::pair<size_t, size_t>;

// Finds added tokens: the leftmost, and among those the longest. Immutable.
class AddedTokenMatcher {
 public:
  // A part of a text: a token, or the text between tokens.
  using SegmentSink =
      absl::FunctionRef<void(std::string_view text, size_t offset, const AddedToken* token)>;

  AddedTokenMatcher() : AddedTokenMatcher({}, {}) {}
  // patterns[i] is tokens[i] as it appears in texts; not empty.
  AddedTokenMatcher(std::vector<AddedToken> tokens, const std::vector<std::string>& patterns);

  // Gives the parts of `text` (valid UTF-8) in order, none empty. With `parse_special` off, special
  // tokens are ordinary text. With it on, so are those that have a byte in `literal`, which is
  // sorted and disjoint.
  void Split(std::string_view text, bool parse_special, std::span<const TextRange> literal,
             TextWork& work, SegmentSink sink) const;
  bool HasSpecial() const;

 private:
  struct Node {
    int32_t token = -1;                              // index of the token that ends here
    std::vector<std::pair<char, int32_t>> children;  // sorted
  };
  struct Match {
    size_t begin, end;
    const AddedToken* token;
  };

  int32_t Child(int32_t node, char c) const;  // -1: none
  // Ranges of `literal` that end before the match are taken from its front.
  std::optional<Match> Find(std::string_view text, size_t from, std::span<const TextRange>* literal,
                            TextWork& work) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;  // a trie; nodes_[0] is its root
  std::array<int32_t, 256> roots_children_;
};

}  // namespace mea
