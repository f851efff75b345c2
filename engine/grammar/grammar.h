#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "kernels/sample.h"

namespace mea {

// What the text of a completion must match, as a client asks for it.
struct GrammarSpec {
  enum class Kind {
    kJsonObject,     // any JSON object
    kJsonSchema,     // `text` is a JSON schema
    kRegex,          // `text` is a regular expression; the whole completion matches it
    kChoice,         // one of `choices`
    kEbnf,           // `text` is a grammar whose first rule is named "root"
    kStructuralTag,  // `text` is a structural tag: free text with tagged parts that follow schemas
  };
  Kind kind = Kind::kJsonObject;
  std::string text;
  std::vector<std::string> choices;

  bool operator==(const GrammarSpec&) const = default;
};

// Where one sequence stands in its grammar. One thread.
class GrammarMatcher {
 public:
  virtual ~GrammarMatcher() = default;
  // Sets the bit of every token that may come next, and no other: a mask as in kernels/sample.h.
  // Stop tokens are allowed where the text may end. A status ends the sequence: INVALID_ARGUMENT if
  // the grammar takes too long to follow.
  virtual absl::Status FillMask(std::span<uint32_t> mask) = 0;
  // Advances by the token that was drawn. False, and no change, if the grammar does not allow it.
  virtual bool Accept(int32_t token) = 0;
  // Whether only a stop token may follow.
  virtual bool is_finished() = 0;
};

// A compiled grammar over one vocabulary. Immutable: any thread, any number of sequences.
class Grammar {
 public:
  virtual ~Grammar() = default;
  // A matcher at the beginning of a text that ends with one of the stop tokens; without any, only
  // is_finished ends it.
  virtual std::unique_ptr<GrammarMatcher> NewMatcher(
      std::span<const int32_t> stop_token_ids) const = 0;
  virtual int64_t memory_bytes() const = 0;
};

}  // namespace mea
