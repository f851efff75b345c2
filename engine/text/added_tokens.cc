#include "engine/text/added_tokens.h"

#include <unicode/uchar.h>

#include <algorithm>

#include "engine/text/utf8.h"

namespace mea {
namespace {

// \w of Unicode's regular expressions (UTS 18, annex C), which Rust follows.
bool IsWord(char32_t c) {
  constexpr uint32_t kCategories = U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK;
  const UChar32 code_point = static_cast<UChar32>(c);
  return u_isUAlphabetic(code_point) || (U_GET_GC_MASK(code_point) & kCategories) != 0 ||
         u_hasBinaryProperty(code_point, UCHAR_JOIN_CONTROL);
}

bool IsSpace(char32_t c) { return u_isUWhiteSpace(static_cast<UChar32>(c)); }

bool StandsAlone(std::string_view text, size_t begin, size_t end) {
  return (begin == 0 || !IsWord(CodePointAt(text, CodePointBefore(text, begin)))) &&
         (end == text.size() || !IsWord(CodePointAt(text, end)));
}

// White space before `first` is not looked at.
size_t SpaceBefore(std::string_view text, size_t first, size_t at, TextWork& work) {
  while (at > first && work.Go(1) && IsSpace(CodePointAt(text, CodePointBefore(text, at)))) {
    at = CodePointBefore(text, at);
  }
  return at;
}

size_t SpaceAfter(std::string_view text, size_t at, TextWork& work) {
  while (at < text.size() && work.Go(1) && IsSpace(CodePointAt(text, at)))
    at += CodePointSize(text[at]);
  return at;
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(std::vector<AddedToken> tokens,
                                     const std::vector<std::string>& patterns)
    : tokens_(std::move(tokens)), nodes_(1) {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    int32_t node = 0;
    for (const char c : patterns[i]) {
      int32_t child = Child(node, c);
      if (child < 0) {
        child = static_cast<int32_t>(nodes_.size());
        nodes_.emplace_back();
        auto& children = nodes_[node].children;
        const std::pair entry(c, child);
        children.insert(std::lower_bound(children.begin(), children.end(), entry), entry);
      }
      node = child;
    }
    nodes_[node].token = static_cast<int32_t>(i);
  }
  roots_children_.fill(-1);
  for (const auto& [c, child] : nodes_[0].children)
    roots_children_[static_cast<uint8_t>(c)] = child;
}

int32_t AddedTokenMatcher::Child(int32_t node, char c) const {
  const auto& children = nodes_[node].children;
  const auto it = std::lower_bound(children.begin(), children.end(), std::pair(c, int32_t{-1}));
  return it != children.end() && it->first == c ? it->second : -1;
}

std::optional<AddedTokenMatcher::Match> AddedTokenMatcher::Find(std::string_view text, size_t from,
                                                                std::span<const TextRange>* literal,
                                                                TextWork& work) const {
  for (size_t begin = from; begin < text.size() && work.Go(1); ++begin) {
    int32_t node = roots_children_[static_cast<uint8_t>(text[begin])];
    if (node < 0) continue;
    while (!literal->empty() && literal->front().second <= begin) *literal = literal->subspan(1);
    // Where the first byte of input from here on is.
    const size_t input = literal->empty() ? text.size() : std::max(begin, literal->front().first);
    std::optional<Match> longest;
    for (size_t end = begin + 1; node >= 0; ++end) {
      if (const int32_t token = nodes_[node].token;
          token >= 0 && !(tokens_[token].special && input < end)) {
        longest = Match{begin, end, &tokens_[token]};
      }
      if (end == text.size()) break;
      node = Child(node, text[end]);
      work.Go(1);
    }
    if (longest.has_value()) return longest;
  }
  return std::nullopt;
}

bool AddedTokenMatcher::HasSpecial() const {
  return std::any_of(tokens_.begin(), tokens_.end(),
                     [](const AddedToken& token) { return token.special; });
}

void AddedTokenMatcher::Split(std::string_view text, bool parse_special,
                              std::span<const TextRange> literal, TextWork& work,
                              SegmentSink sink) const {
  size_t done = 0;  // end of the last part given
  const auto give = [&](size_t begin, size_t end, const AddedToken* token) {
    if (begin < end && !work.stopped()) sink(text.substr(begin, end - begin), begin, token);
  };
  for (size_t from = 0; !tokens_.empty();) {
    const std::optional<Match> match = Find(text, from, &literal, work);
    if (!match.has_value()) break;
    from = match->end;
    auto [begin, end, token] = *match;
    if (token->special && !parse_special) continue;
    if (token->single_word && !StandsAlone(text, begin, end)) continue;
    // White space that an earlier token has taken is not taken again.
    if (token->lstrip) begin = SpaceBefore(text, done, begin, work);
    if (token->rstrip) end = SpaceAfter(text, end, work);
    if (done < begin) give(done, begin, nullptr);
    give(begin, end, token);
    done = end;
  }
  give(done, text.size(), nullptr);
}

}  // namespace mea
