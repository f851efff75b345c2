#pragma once

#include <absl/status/statusor.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/added_tokens.h"
#include "engine/text/bpe.h"
#include "engine/text/decoder.h"
#include "engine/text/normalizer.h"
#include "engine/text/pre_tokenizer.h"
#include "engine/text/vocabulary.h"

namespace mea {

// The contents of a tokenizer.json, checked. `truncation` and `padding` concern training and are
// ignored.
struct TokenizerSpec {
  Vocabulary vocabulary;  // of the model and the added tokens
  Bpe bpe;
  std::vector<AddedToken> added_tokens;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  // Ids that the post-processor puts before and after a text.
  std::vector<int32_t> prefix, suffix;
  DecoderSpec decoder;
};

// Refuses with one line: "<name>: <path in the file> <value> <what is wrong with it>".
absl::StatusOr<TokenizerSpec> ParseTokenizerJson(std::string_view json, const std::string& name);

}  // namespace mea
