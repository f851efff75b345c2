#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "engine/text/text_work.h"

namespace mea {

// The normalization forms of Unicode (UAX 15).
enum class UnicodeForm { kNfc, kNfd, kNfkc, kNfkd };

// `text`, valid UTF-8, in that form, in time linear in its size. Absent if it has that form
// already.
std::optional<std::string> InUnicodeForm(UnicodeForm form, std::string_view text, TextWork& work);

// The same for a run whose first code point composes with none before it, in our own code: for
// texts of any length, but slower than ICU on short ones.
std::string RunInUnicodeForm(UnicodeForm form, std::string_view run, TextWork& work);

}  // namespace mea
