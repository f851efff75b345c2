#pragma once

#include <absl/status/statusor.h>

#include <string>
#include <string_view>

namespace mea {

// tokenizer.json writes its patterns for Oniguruma (Ruby's syntax). Gives the pattern that means
// the same to PCRE2 (UTF, UCP, MULTILINE): \s, \w and \p{Script} are spelled out where the two
// disagree. Constructs that one of them lacks, or reads differently, are refused, naming the part.
absl::StatusOr<std::string> OnigurumaToPcre2(std::string_view pattern);

}  // namespace mea
