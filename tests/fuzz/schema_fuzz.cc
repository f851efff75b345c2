// What a client asks for as structured output: compiled, or refused in one line; then followed for
// some tokens.
#include <memory>
#include <string>
#include <vector>

#include "engine/grammar/grammar_compiler.h"
#include "tests/fuzz/fuzz.h"

namespace {

constexpr int kVocabSize = 257;  // each byte, and an end
constexpr int kMaxTokens = 40;

std::unique_ptr<mea::GrammarCompiler> NewCompiler() {
  std::vector<std::string> vocabulary;
  for (int i = 0; i < 256; ++i) vocabulary.emplace_back(1, static_cast<char>(i));
  vocabulary.emplace_back();
  return mea::GrammarCompiler::OfVocabulary(vocabulary, kVocabSize, {.cache_bytes = 0}).value();
}

// The first token that is allowed at or behind `from`; -1 where there is none.
int FirstAllowed(const std::vector<uint32_t>& mask, int from) {
  for (int i = 0; i < kVocabSize; ++i) {
    const int token = (from + i) % kVocabSize;
    if ((mask[token / 32] >> (token % 32) & 1) != 0) return token;
  }
  return -1;
}

void Follow(const mea::Grammar& grammar) {
  const int32_t stop[] = {256};
  const auto matcher = grammar.NewMatcher(stop);
  std::vector<uint32_t> mask((kVocabSize + 31) / 32);
  for (int i = 0; i < kMaxTokens && !matcher->is_finished(); ++i) {
    if (!matcher->FillMask(mask).ok()) return;
    const int token = FirstAllowed(mask, i * 31);
    if (token < 0 || token == 256) return;
    mea::fuzz::Require(matcher->Accept(token), "what the mask allows is accepted");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using Kind = mea::GrammarSpec::Kind;
  static mea::GrammarCompiler& compiler = *NewCompiler().release();
  mea::fuzz::Input input(data, size);
  mea::GrammarSpec spec;
  spec.kind = static_cast<Kind>(input.Choose(static_cast<size_t>(Kind::kStructuralTag) + 1));
  spec.text = input.Rest();
  if (spec.kind == Kind::kChoice) {
    while (!input.Rest().empty()) spec.choices.emplace_back(input.Part());
  }
  const auto grammar = compiler.Compile(spec);
  if (grammar.ok()) {
    Follow(**grammar);
  } else {
    mea::fuzz::Require(!grammar.status().message().empty(), "a refusal says why");
  }
  return 0;
}
