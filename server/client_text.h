#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/text/text_work.h"
#include "engine/text/tokenizer.h"

namespace mea {

// How to read a client's text that no chat template wrote.
EncodeOptions PlainTextOptions(bool add_special_tokens, bool parse_special);

// Texts and tokens of clients, converted within the bounds of limits.h and only while somebody
// waits for the result. INVALID_ARGUMENT names the field.
absl::StatusOr<std::vector<int32_t>> EncodeText(const Tokenizer& tokenizer, std::string_view field,
                                                std::string_view text, const EncodeOptions& options,
                                                StillWanted still_wanted);
absl::StatusOr<std::string> DecodeTokens(const Tokenizer& tokenizer, std::string_view field,
                                         std::span<const int32_t> ids, bool skip_special_tokens,
                                         StillWanted still_wanted);

}  // namespace mea
