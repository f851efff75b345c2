#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mea::jinja {

enum class TokenKind : uint8_t {
  kText,  // outside of all tags
  kVariableBegin,
  kVariableEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  int line = 1;
  std::string text;  // of strings without quotes and escapes
};

// Divides a template as jinja2's lexer does with trim_blocks and lstrip_blocks on and
// keep_trailing_newline off, which is how transformers sets it: the first newline after a block or
// comment is removed, and so is the white space before it on its line; a "-" inside a tag removes
// all white space on its side. Comments are left out. The last token is kEnd. Errors name the line.
absl::StatusOr<std::vector<Token>> Tokenize(std::string_view source);

// An error of a template, in the form that this room uses.
absl::Status ErrorAt(int line, std::string_view what);

}  // namespace mea::jinja
