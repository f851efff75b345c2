#pragma once

#include <cstddef>
#include <cstdint>

namespace mea::grammar {

// What a client may ask for. Checked before any work that grows faster than the text.
inline constexpr size_t kMaxSchemaBytes = 256 << 10;  // of a JSON schema or a structural tag
inline constexpr int kMaxSchemaDepth = 64;            // schemas within schemas
inline constexpr int kMaxJsonDepth = 256;             // brackets within brackets
inline constexpr int kMaxSchemaNodes = 4000;          // schemas
inline constexpr int kMaxEnumValues = 4000;           // of all const and enum together
// Properties times optional ones, added up over all objects.
inline constexpr int64_t kMaxOptional = 200'000;
inline constexpr int kMaxPatterns = 100;      // pattern and patternProperties together
inline constexpr int64_t kMaxCount = 10'000;  // minItems, maxLength and the like
inline constexpr size_t kMaxRegexBytes = 8 << 10;
inline constexpr int64_t kMaxRegexStates = 1'000;   // characters once repetitions are written out
inline constexpr int64_t kMaxEbnfStates = 100'000;  // likewise
inline constexpr int kMaxGroupDepth = 64;           // brackets of a regex or of EBNF
inline constexpr size_t kMaxEbnfBytes = 64 << 10;
inline constexpr int kMaxChoices = 4000;
inline constexpr size_t kMaxChoiceBytes = 64 << 10;  // all together
// Steps of the library's parser for the masks of all states: one to five seconds. A hundred
// thousand are enough for a grammar of SQL, a million for one of C.
inline constexpr int64_t kMaxCompileSteps = 30'000'000;
// Likewise, steps to follow a grammar by one token; what a sequence may use beyond that in total,
// and all sequences of a thread in one second: about 3, 50 and 100 ms.
inline constexpr int64_t kFollowSteps = 1 << 15;
inline constexpr int64_t kMaxExcessSteps = 1 << 19;
inline constexpr int64_t kMaxThreadExcessSteps = 1 << 20;
inline constexpr int64_t kMaxGrammarBytes = 128 << 20;  // compiled
inline constexpr int kMaxWhitespace = 24;        // in a row, between the tokens of a JSON document
inline constexpr size_t kMaxMessageBytes = 300;  // of an error

}  // namespace mea::grammar
