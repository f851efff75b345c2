#pragma once

#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/grammar/grammar_compiler.h"

namespace mea::testing {

// The vocabulary of these tests: the 256 bytes, one token each, and one to end with. Ids up to
// kByteVocab stand for nothing.
inline constexpr int32_t kByteEnd = 256;
inline constexpr int kByteVocab = 260;

std::unique_ptr<GrammarCompiler> MakeByteCompiler(GrammarCompiler::Options options = {});

// Whether the text, byte by byte, is in the language, and how far it gets.
struct Walk {
  bool may_end = false;  // all of it was accepted, and the text may end there
  size_t num_accepted = 0;
};
Walk WalkText(const Grammar& grammar, std::string_view text);
bool Matches(const Grammar& grammar, std::string_view text);

inline bool Allows(std::span<const uint32_t> mask, int32_t token) {
  return (mask[token / kMaskBits] >> (token % kMaskBits) & 1) != 0;
}

}  // namespace mea::testing
