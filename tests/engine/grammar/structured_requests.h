#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/grammar/grammar_compiler.h"
#include "tests/support/engine_harness.h"

namespace mea::testing {

// A random model whose tokens stand for text: the printable characters, and pieces of JSON.
inline constexpr int32_t kStructuredEos = 0;
inline const RandomModelSpec kStructuredModel{.vocab_size = 130, .head_norm = true};

std::shared_ptr<const Grammar> CompileStructured(const GrammarSpec& spec);
std::string StructuredText(const std::vector<int32_t>& tokens);  // the end is no text

// Requests with several grammars and ways to sample, one after the other.
std::vector<Request> StructuredRequests(int count);
// Whether the text is what request i of these asks for.
bool IsAsAsked(int i, const std::string& text);

}  // namespace mea::testing
