#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/text/text_work.h"

namespace mea {

class Decoder;

struct EncodeOptions {
  // Adds the tokens that the file's post-processor puts around a text: usually one BOS token before
  // it.
  bool add_special_tokens = true;
  // Whether those tokens are added even if the text begins with them already, as Hugging Face does.
  // Models have never seen two BOS tokens in a row.
  bool repeats_prefix = true;
  // Reads "<|eot|>" inside the text as that one token, as Hugging Face does. Turn it off for
  // untrusted text: special tokens are then encoded as ordinary characters, so nobody can end a
  // message or open a system prompt by typing it. Added tokens that are not special are still
  // recognised.
  bool parse_special = true;
  // Bytes [first, second) of the text in which special tokens are ordinary text, sorted and
  // disjoint: untrusted text inside text that the server wrote. A special token is read only if
  // none of its bytes lie in them; everything else is as for the whole text. With such ranges, a
  // text that is not valid UTF-8 is read without special tokens.
  std::span<const std::pair<size_t, size_t>> literal = {};
};

// Text to token ids and back, as the Hugging Face `tokenizers` library does with the same
// tokenizer.json: byte-level BPE (GPT-2, Llama 3, Qwen) and SentencePiece BPE (Llama 2, Mistral).
// Immutable once loaded: all methods may be called by any thread at any time.
class Tokenizer {
 public:
  // Reads a tokenizer.json. A broken file or an unsupported component is refused here, with one
  // line naming file, field and value; nothing can fail after that.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const std::string& path);
  // The same for the bytes of such a file; `name` stands for the file in messages.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Parse(std::string_view json,
                                                          const std::string& name);
  ~Tokenizer();

  // Never fails: invalid UTF-8 is read as Python's bytes.decode("utf-8", errors="replace") reads
  // it, one U+FFFD for each maximal broken sequence. For the program's own texts.
  std::vector<int32_t> Encode(std::string_view text, const EncodeOptions& options = {}) const;
  // The same for other texts: fails if `work` is stopped or a pattern of the file gives up.
  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text, const EncodeOptions& options,
                                              TextWork& work) const;

  // Valid UTF-8 whatever the ids; ids without a token are skipped.
  std::string Decode(std::span<const int32_t> ids, bool skip_special_tokens) const;
  absl::StatusOr<std::string> Decode(std::span<const int32_t> ids, bool skip_special_tokens,
                                     TextWork& work) const;

  // "byte-level BPE" or "SentencePiece BPE".
  std::string_view kind() const;
  // One more than the largest id. Ids below it may have no token.
  int32_t vocab_size() const;

  std::optional<int32_t> TokenToId(std::string_view token) const;
  // The token as the vocabulary writes it ("Ġthe", "▁the"); empty for an id without a token.
  std::string_view IdToToken(int32_t id) const;
  // The bytes that the token stands for inside a text (" the"; one byte of a code point for
  // "<0xE2>"): what a logprob entry shows. Not always valid UTF-8. Empty for an id without a token.
  std::string_view TokenBytes(int32_t id) const;
  // Whether Decode leaves the token out when it skips special tokens.
  bool IsSpecial(int32_t id) const;

  // What each token contributes to a text: for Detokenizer.
  const Decoder& decoder() const;

 private:
  struct Parts;

  explicit Tokenizer(std::unique_ptr<const Parts> parts);

  std::unique_ptr<const Parts> parts_;
};

}  // namespace mea
