#include "engine/text/jinja/marked_text.h"

#include <algorithm>

#include "engine/text/jinja/limits.h"

namespace mea::jinja {
namespace {

// The first range of `inputs` that ends after `at`.
auto FirstAfter(const std::vector<ByteRange>& inputs, size_t at) {
  return std::partition_point(inputs.begin(), inputs.end(),
                              [at](const ByteRange& range) { return range.second <= at; });
}

}  // namespace

bool MarkedText::HasInput(size_t begin, size_t end) const {
  const auto range = FirstAfter(inputs, begin);
  return begin < end && range != inputs.end() && range->first < end;
}

size_t MarkedText::EndOfRun(size_t at) const {
  const auto range = FirstAfter(inputs, at);
  return range == inputs.end() ? text.size() : range->first > at ? range->first : range->second;
}

void TextBuilder::Mark(size_t begin, size_t end) {
  if (begin == end) return;
  auto& inputs = made_.inputs;
  if (!inputs.empty() && inputs.back().second == begin) {
    inputs.back().second = end;
  } else {
    inputs.emplace_back(begin, end);
  }
}

void TextBuilder::Add(std::string_view text, bool input) {
  if (overflown_ || text.size() > kMaxStringBytes - made_.size()) {
    overflown_ = true;
    return;
  }
  const size_t begin = made_.size();
  made_.text += text;
  if (input) Mark(begin, made_.size());
}

void TextBuilder::Add(const MarkedText& text, size_t begin, size_t end) {
  const size_t offset = made_.size();
  Add(std::string_view(text.text).substr(begin, end - begin));
  if (overflown_) return;
  for (auto range = FirstAfter(text.inputs, begin);
       range != text.inputs.end() && range->first < end; ++range) {
    Mark(offset + std::max(range->first, begin) - begin,
         offset + std::min(range->second, end) - begin);
  }
}

}  // namespace mea::jinja
