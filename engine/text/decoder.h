#pragma once

#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/text/added_tokens.h"
#include "engine/text/normalizer.h"
#include "engine/text/utf8.h"
#include "engine/text/vocabulary.h"

namespace mea {

// The decoder of tokenizer.json: how tokens become text.
struct DecoderSpec {
  enum class Kind {
    kJoinWithSpaces,  // the file has none
    kByteLevel,       // tokens are bytes, invalid sequences become U+FFFD
    kMetaspace,       // the replacement is a space, nothing in the first token
    kPieces,          // Sequence: Replace..., ByteFallback, Fuse, Strip
  };
  Kind kind = Kind::kJoinWithSpaces;
  // kMetaspace
  std::string replacement;     // one code point
  bool drops_in_first = true;  // prepend_scheme is not "never"
  // kPieces
  std::vector<Replace> replaces;  // within each token
  bool byte_fallback = false;     // runs of "<0xNN>" are bytes
  std::string strip;              // one code point, removed from the start of the text
  int strip_start = 0;            // at most so often
};

// What each id contributes to a text. Immutable.
class Decoder {
 public:
  struct Piece {
    std::string bytes;   // within a text: " the", or one byte of a code point
    bool known = false;  // the id has a token
    bool special = false;
    bool is_byte = false;  // of a byte fallback run
  };

  // `added`: an added token that is looked for in normalized text also decodes in that form.
  Decoder(DecoderSpec spec, const Vocabulary& vocabulary, const std::vector<AddedToken>& added,
          const Normalizer& normalizer);

  const DecoderSpec& spec() const { return spec_; }
  // A piece without a token if there is no such id.
  const Piece& piece(int32_t id) const;
  // What a Metaspace decoder keeps of the first token of a text.
  std::string FirstPiece(int32_t id) const;

 private:
  Piece PieceOf(const std::string& token) const;

  const DecoderSpec spec_;
  std::vector<Piece> pieces_;                                     // by id
  absl::flat_hash_map<int32_t, std::string> normalized_content_;  // of added tokens, if it differs
  const Vocabulary* vocabulary_;
};

// Decodes one text token by token and outputs what no later token can change. Used by one thread;
// the decoder must outlive it.
class DecodeStream {
 public:
  // `shown`: special tokens that are never skipped, sorted.
  DecodeStream(const Decoder* decoder, bool skip_special_tokens, std::vector<int32_t> shown = {})
      : decoder_(decoder),
        skip_special_(skip_special_tokens),
        shown_(std::move(shown)),
        strip_left_(strip_start()) {}

  // Appends to `text` what is certain now, as valid UTF-8.
  void Push(int32_t id, std::string* text);
  // The same for everything that is left.
  void Finish(std::string* text);

  // Declares what came so far to be another text (a prompt) that this one continues: held-back
  // output is dropped, except the bytes of an incomplete code point.
  void BeginContinuation();

  // The part of a byte run that is complete code points so far. The run becomes this text, unless
  // bytes that are not UTF-8 follow without another token between: then Hugging Face makes each of
  // the run's bytes one U+FFFD. Empty if that has happened, or if the run is at the start of the
  // text and would be stripped.
  std::string_view OpenRun() const;

 private:
  int strip_start() const { return decoder_->spec().strip_start; }
  void PushRunByte(char byte);
  void CloseRun(std::string* text);
  void Emit(std::string_view piece, std::string* text);

  const Decoder* decoder_;
  bool skip_special_;
  std::vector<int32_t> shown_;
  bool first_ = true;        // no token yet
  int strip_left_;           // how many more leading code points may be stripped
  Utf8Assembler assembler_;  // kByteLevel
  std::string run_;          // bytes of the open byte run
  size_t run_complete_ = 0;  // of which these are complete code points
  bool run_broken_ = false;  // it is not UTF-8, whatever follows
};

}  // namespace mea
