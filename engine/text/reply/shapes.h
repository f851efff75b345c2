#pragma once

#include <string_view>
#include <vector>

#include "engine/text/reply/reply_format.h"

namespace mea::reply {

// The texts around the calls of a format. All of them live as long as the program.
struct ToolShape {
  // Open a section of calls. They are removed with the calls; without any call they are text.
  std::vector<std::string_view> preludes;
  // Begin a call.
  std::vector<std::string_view> openers;
  // '{' or '[': the first byte of a call without a marker, before any content.
  std::string_view bare_opener;
  bool bare_in_lines = false;  // at the beginning of a later line as well
  // Removed after a call, in this order.
  std::vector<std::string_view> closers;
  // Removed between two calls.
  std::string_view separator;
  // Special tokens inside calls.
  std::vector<std::string_view> inner;
};

struct ReasoningShape {
  std::string_view open;
  std::string_view close;
  // Frame the content and are removed.
  std::vector<std::string_view> silent;
};

// Without markers for kNone; kHarmony is read by a parser of its own.
const ToolShape& ShapeOf(ToolFormat format);
const ReasoningShape& ShapeOf(ReasoningFormat format);

}  // namespace mea::reply
