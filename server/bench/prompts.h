#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/bench/request.h"

namespace mea {

// Both ends included.
struct LengthRange {
  int low = 128;
  int high = 128;
};

// "64" or "64:256". INVALID_ARGUMENT naming `flag` and the text.
absl::StatusOr<LengthRange> ParseLengthRange(const std::string& flag, const std::string& text);

struct PromptOptions {
  // JSON lines {"prompt": "text" or [token ids], "max_tokens": 64}, the latter optional; taken in
  // order, again from the first after the last. Empty: random prompts.
  std::string file;
  LengthRange input;   // tokens of a random prompt, its prefix not counted
  LengthRange output;  // tokens to generate
  // Every random prompt begins with one of this many prefixes of this many tokens.
  int prefix_tokens = 0;
  int num_prefixes = 1;
  int vocab_size =
      0;  // random prompts are ids below it; 0: short English words, about one token each
  double cancel_rate = 0;  // share of requests that the client abandons after some tokens
  uint64_t seed = 1;
  int round = 0;  // of one invocation: a prefix cache still has the prompts of the others
};

// The requests of a measurement. Each depends on the options, its round included, and its number
// alone, so that every server meets the same. Immutable; any thread.
class Prompts {
 public:
  // INVALID_ARGUMENT naming file and line, NOT_FOUND if there is no such file.
  static absl::StatusOr<Prompts> Create(PromptOptions options);

  BenchRequest Make(int64_t number) const;

 private:
  explicit Prompts(PromptOptions options) : options_(std::move(options)) {}
  absl::Status ReadFile();

  PromptOptions options_;
  std::vector<BenchRequest> from_file_;  // max_tokens 0: not said
};

}  // namespace mea
