#include "tests/engine/grammar/byte_grammar.h"

#include <array>

#include "kernels/check.h"

namespace mea::testing {

std::unique_ptr<GrammarCompiler> MakeByteCompiler(GrammarCompiler::Options options) {
  std::vector<std::string> vocabulary(kByteEnd + 1);
  for (int byte = 0; byte < 256; ++byte) vocabulary[byte] = std::string(1, static_cast<char>(byte));
  auto compiler = GrammarCompiler::OfVocabulary(vocabulary, kByteVocab, options);
  MEA_CHECK(compiler.ok());
  return *std::move(compiler);
}

Walk WalkText(const Grammar& grammar, std::string_view text) {
  const std::array<int32_t, 1> stops = {kByteEnd};
  const std::unique_ptr<GrammarMatcher> matcher = grammar.NewMatcher(stops);
  std::vector<uint32_t> mask(MaskWords(kByteVocab));
  Walk walk;
  for (const char c : text) {
    const auto token = static_cast<unsigned char>(c);
    MEA_CHECK(matcher->FillMask(mask).ok());
    const bool is_allowed = Allows(mask, token);
    MEA_CHECK(matcher->Accept(token) == is_allowed);  // mask and matcher agree
    if (!is_allowed) return walk;
    ++walk.num_accepted;
  }
  MEA_CHECK(matcher->FillMask(mask).ok());
  walk.may_end = Allows(mask, kByteEnd);
  return walk;
}

bool Matches(const Grammar& grammar, std::string_view text) {
  return WalkText(grammar, text).may_end;
}

}  // namespace mea::testing
