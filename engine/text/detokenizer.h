#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/text/tokenizer.h"

namespace mea {

struct DetokenizerOptions {
  // Generation ends where the first of these is complete. At most kMaxStopStrings, none empty, all
  // valid UTF-8. One that equals a special token also ends it at that token, although the text
  // leaves the token out.
  std::vector<std::string> stop;
  bool include_stop = false;  // whether the text ends with the stop string or just before it
  int min_tokens = 0;         // a stop string that one of the first so many completes is none
  bool skip_special_tokens = true;
  // Special tokens that are never skipped, sorted.
  std::vector<int32_t> shown_special_tokens;
};

// The text that one token added to a stream.
struct TextDelta {
  std::string text;     // valid UTF-8, often empty
  int stop_index = -1;  // in DetokenizerOptions::stop; >= 0: matched, and the text has ended
};

// Turns the tokens of one stream into text as they arrive. Owned by the stream, used by one thread
// at a time; the tokenizer must outlive it. Costs O(1) amortised per byte and stop string.
//
// The deltas, concatenated, are Tokenizer::Decode(prompt + generated) without the text of the
// prompt, cut at the stop string. Held back until they are certain: the bytes of an incomplete code
// point, a run of SentencePiece byte tokens (one bad byte spoils the whole run for Hugging Face),
// and text that may be the beginning of a stop string.
class Detokenizer {
 public:
  static constexpr int kMaxStopStrings = 64;
  static constexpr int kMaxStopBytes = 4096;  // of one stop string

  // Refuses a bad stop string with InvalidArgument naming it.
  static absl::StatusOr<Detokenizer> Create(const Tokenizer* tokenizer, DetokenizerOptions options);
  Detokenizer(Detokenizer&&) noexcept;
  Detokenizer& operator=(Detokenizer&&) noexcept;
  ~Detokenizer();

  // Before the first Push: the text continues that of `prompt`, so "▁world" keeps its space. None
  // of the prompt's text is repeated, except the bytes of a code point that it leaves incomplete.
  // Stop strings are looked for only in the generated text.
  void StartAfter(std::span<const int32_t> prompt);

  // The text that `id` made certain. A match is reported with the token that completes the stop
  // string, even if text is still held back; of several completed at the same place, the longest.
  // After a match there is no more text.
  TextDelta Push(int32_t id);

  // Of the text that is certain, what is held back for a stop string included: where the next token
  // begins in it.
  int64_t num_code_points() const;

  // The end of the stream: returns what was held back, an incomplete code point as U+FFFD.
  TextDelta Finish();

 private:
  struct State;

  explicit Detokenizer(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace mea
