#pragma once

#include <span>
#include <vector>

#include "engine/eval/reader.h"
#include "engine/eval/scores.h"
#include "engine/text/tokenizer.h"

namespace mea {

// A long text with facts of the form "The secret number of Alice is 48213." spread over it. At its
// end every fact stands once more, in another order: predicting its number takes nothing but
// finding the first place, which a base model can do.
struct Haystack {
  struct Answer {
    int first = 0;  // token of the number
    int count = 0;
  };
  Document tokens;
  int tail = 0;  // tokens from the first repeated fact on
  std::vector<Answer> answers;
};

inline constexpr int kNeedles = 16;  // facts of one haystack

// Exactly `length` tokens with kNeedles facts in `filler`, which is repeated as often as needed. No
// answers if so many tokens cannot hold them. The same seed makes the same haystack.
Haystack MakeHaystack(const Tokenizer& tokenizer, std::span<const int32_t> filler, int length,
                      uint64_t seed);

// How well a model finds the numbers of haystacks.
struct NeedleScore {
  int tokens = 0;  // of a haystack
  int answers = 0;
  int right = 0;    // numbers whose every token was the likeliest
  double nats = 0;  // sum of -log p over all numbers
  double nats_per_answer() const { return nats / answers; }
};

// Adds what the reader, whose options.longest holds the haystack, makes of it.
void ScoreHaystack(Reader& reader, const Haystack& haystack, NeedleScore& score);

}  // namespace mea
