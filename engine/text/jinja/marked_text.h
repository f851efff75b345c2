#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mea::jinja {

// Bytes [first, second) of a text.
using ByteRange = std::pair<size_t, size_t>;

// A text that remembers which of its bytes came from the request ("inputs") rather than from the
// template. Everything derived from a marked text keeps the marks of the bytes that it came from.
struct MarkedText {
  std::string text;
  std::vector<ByteRange> inputs;  // sorted, disjoint, not touching, none empty

  size_t size() const { return text.size(); }
  bool WholeIsInput() const { return inputs.size() == 1 && inputs[0] == ByteRange{0, text.size()}; }
  bool HasInput(size_t begin, size_t end) const;  // any byte of [begin, end)
  // The end of the run of bytes of one origin that contains `at`.
  size_t EndOfRun(size_t at) const;
};

// Appends to a MarkedText; stops at kMaxStringBytes.
class TextBuilder {
 public:
  void Add(std::string_view text, bool input = false);
  void Add(const MarkedText& text) { Add(text, 0, text.size()); }
  void Add(const MarkedText& text, size_t begin, size_t end);

  size_t size() const { return made_.size(); }
  bool overflown() const { return overflown_; }
  const MarkedText& made() const { return made_; }
  MarkedText Take() { return std::move(made_); }

 private:
  void Mark(size_t begin, size_t end);

  MarkedText made_;
  bool overflown_ = false;
};

}  // namespace mea::jinja
