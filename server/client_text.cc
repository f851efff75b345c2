#include "server/client_text.h"

#include <algorithm>

#include "server/field_error.h"
#include "server/limits.h"

namespace mea {
namespace {

absl::Status OfField(std::string_view field, const absl::Status& status) {
  if (!absl::IsInvalidArgument(status)) return status;
  return FieldError(field, {status.message().data(), status.message().size()});
}

}  // namespace

EncodeOptions PlainTextOptions(bool add_special_tokens, bool parse_special) {
  return {.add_special_tokens = add_special_tokens,
          .repeats_prefix = false,
          .parse_special = parse_special};
}

absl::StatusOr<std::vector<int32_t>> EncodeText(const Tokenizer& tokenizer, std::string_view field,
                                                std::string_view text, const EncodeOptions& options,
                                                StillWanted still_wanted) {
  TextWork work(still_wanted,
                std::max(kMaxStepsOfAnyText, std::ssize(text) * kMaxStepsPerTextByte));
  auto ids = tokenizer.Encode(text, options, work);
  if (!ids.ok()) return OfField(field, ids.status());
  return ids;
}

absl::StatusOr<std::string> DecodeTokens(const Tokenizer& tokenizer, std::string_view field,
                                         std::span<const int32_t> ids, bool skip_special_tokens,
                                         StillWanted still_wanted) {
  TextWork work(still_wanted, kMaxStepsOfAnyText);
  auto text = tokenizer.Decode(ids, skip_special_tokens, work);
  if (!text.ok()) return OfField(field, text.status());
  return text;
}

}  // namespace mea
