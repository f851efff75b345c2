#include "engine/text/tokenizer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/storage/files.h"
#include "engine/text/added_tokens.h"
#include "engine/text/bpe.h"
#include "engine/text/decoder.h"
#include "engine/text/normalizer.h"
#include "engine/text/pre_tokenizer.h"
#include "engine/text/tokenizer_json.h"
#include "engine/text/utf8.h"
#include "engine/text/vocabulary.h"
#include "kernels/check.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

// The matcher of the added tokens that are searched for in raw text, or in normalized text.
AddedTokenMatcher MatcherOf(const TokenizerSpec& spec, bool normalized) {
  std::vector<AddedToken> tokens;
  std::vector<std::string> patterns;
  TextWork work;
  for (const AddedToken& token : spec.added_tokens) {
    if (token.normalized != normalized) continue;
    std::string buffer;
    const std::string_view pattern =
        normalized ? spec.normalizer.Apply(token.content, &buffer, work) : token.content;
    if (pattern.empty()) continue;  // there is nothing to find
    patterns.emplace_back(pattern);
    tokens.push_back(token);
  }
  return AddedTokenMatcher(std::move(tokens), patterns);
}

}  // namespace

struct Tokenizer::Parts {
  explicit Parts(TokenizerSpec spec)
      : vocabulary(std::move(spec.vocabulary)),
        raw_matcher(MatcherOf(spec, /*normalized=*/false)),
        normalized_matcher(MatcherOf(spec, /*normalized=*/true)),
        bpe(std::move(spec.bpe)),
        prefix(std::move(spec.prefix)),
        suffix(std::move(spec.suffix)),
        decoder(std::move(spec.decoder), vocabulary, spec.added_tokens, spec.normalizer),
        inner_normalizer(spec.normalizer.WithoutEnds()),
        normalizer(std::move(spec.normalizer)),
        pre_tokenizer(std::move(spec.pre_tokenizer)) {}

  // Encodes what lies between the added tokens of the raw text; `literal` are ranges of it.
  void EncodePlain(std::string_view text, bool at_start, bool parse_special,
                   std::span<const TextRange> literal, TextWork& work,
                   std::vector<int32_t>* ids) const {
    std::string buffer;
    const std::string_view normalized = normalizer.Apply(text, &buffer, work);
    std::vector<TextRange> moved;
    if (!literal.empty() && parse_special && normalized_matcher.HasSpecial()) {
      moved = LiteralOfNormalized(text, normalized, literal, work);
    }
    normalized_matcher.Split(normalized, parse_special, moved, work,
                             [&](std::string_view part, size_t offset, const AddedToken* token) {
                               if (token != nullptr) return ids->push_back(token->id);
                               pre_tokenizer.Split(
                                   part, at_start && offset == 0, work,
                                   [&](std::string_view word) { bpe.Encode(word, work, ids); });
                             });
  }

  // Where the bytes of `literal` are once `text` is normalized. The parts of the text between the
  // bounds of the ranges are normalized one by one; if the results do not add up to the whole, for
  // example because a code point composes across a bound, all of the text counts as literal.
  std::vector<TextRange> LiteralOfNormalized(std::string_view text, std::string_view normalized,
                                             std::span<const TextRange> literal,
                                             TextWork& work) const {
    std::vector<TextRange> ranges;
    std::string pieces, buffer;
    size_t done = 0;
    const auto piece = [&](size_t end) {
      pieces += inner_normalizer.Apply(text.substr(done, end - done), &buffer, work);
      done = end;
      return pieces.size();
    };
    for (const auto& [begin, end] : literal) {
      if (!work.Go(1)) return {};
      const size_t from = piece(begin);
      ranges.emplace_back(from, piece(end));
    }
    piece(text.size());
    if (!normalized.ends_with(pieces)) return {{0, normalized.size()}};
    for (auto& [begin, end] : ranges) {  // after the prefix that the normalizer adds
      begin += normalized.size() - pieces.size();
      end += normalized.size() - pieces.size();
    }
    return ranges;
  }

  const Vocabulary vocabulary;
  const AddedTokenMatcher raw_matcher, normalized_matcher;
  const Bpe bpe;
  const std::vector<int32_t> prefix, suffix;
  const Decoder decoder;
  const Normalizer inner_normalizer;  // for a part of a text that is normalized already
  const Normalizer normalizer;
  const PreTokenizer pre_tokenizer;
};

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Load(const std::string& path) {
  const absl::StatusOr<std::string> content = ReadTextFile(path);
  if (absl::IsNotFound(content.status())) {
    return absl::NotFoundError(
        absl::StrCat(content.status().message(),
                     "; no other kind of tokenizer is read, tokenizer.model neither"));
  }
  MEA_RETURN_IF_ERROR(content.status());
  return Parse(*content, path);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Parse(std::string_view json,
                                                            const std::string& name) {
  MEA_ASSIGN_OR_RETURN(TokenizerSpec spec, ParseTokenizerJson(json, name));
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::make_unique<Parts>(std::move(spec))));
}

Tokenizer::Tokenizer(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}
Tokenizer::~Tokenizer() = default;

std::vector<int32_t> Tokenizer::Encode(std::string_view text, const EncodeOptions& options) const {
  TextWork work;
  absl::StatusOr<std::vector<int32_t>> ids = Encode(text, options, work);
  MEA_CHECK(ids.ok());
  return *std::move(ids);
}

absl::StatusOr<std::vector<int32_t>> Tokenizer::Encode(std::string_view text,
                                                       const EncodeOptions& options,
                                                       TextWork& work) const {
  if (!work.Go(static_cast<int64_t>(text.size()))) return work.status();
  std::string repaired;
  std::span<const TextRange> literal = options.literal;
  bool parse_special = options.parse_special;
  if (!IsValidUtf8(text)) {
    repaired = ReplaceInvalidUtf8(text);
    text = repaired;
    parse_special &= literal.empty();  // the ranges belong to another text
    literal = {};
  }
  std::vector<int32_t> ids;
  if (options.add_special_tokens) ids = parts_->prefix;
  std::vector<TextRange> within;
  parts_->raw_matcher.Split(
      text, parse_special, literal, work,
      [&](std::string_view part, size_t offset, const AddedToken* token) {
        if (token != nullptr) return ids.push_back(token->id);
        within.clear();
        const size_t end = offset + part.size();
        while (!literal.empty() && literal.front().second <= offset) literal = literal.subspan(1);
        for (const auto& [from, to] : literal) {
          if (from >= end) break;
          within.emplace_back(std::max(from, offset) - offset, std::min(to, end) - offset);
        }
        parts_->EncodePlain(part, /*at_start=*/offset == 0, parse_special, within, work, &ids);
      });
  if (work.stopped()) return work.status();
  if (options.add_special_tokens) {
    const std::vector<int32_t>& prefix = parts_->prefix;
    const auto begin = ids.begin() + std::ssize(prefix);
    const bool has_own = std::ssize(ids) >= 2 * std::ssize(prefix) &&
                         std::equal(prefix.begin(), prefix.end(), begin);
    if (has_own && !options.repeats_prefix) ids.erase(ids.begin(), begin);
    ids.insert(ids.end(), parts_->suffix.begin(), parts_->suffix.end());
  }
  return ids;
}

std::string Tokenizer::Decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  TextWork work;
  return *Decode(ids, skip_special_tokens, work);  // nothing stops it
}

absl::StatusOr<std::string> Tokenizer::Decode(std::span<const int32_t> ids,
                                              bool skip_special_tokens, TextWork& work) const {
  std::string text;
  DecodeStream stream(&parts_->decoder, skip_special_tokens);
  for (const int32_t id : ids) {
    const size_t size = text.size();
    stream.Push(id, &text);
    if (!work.Go(static_cast<int64_t>(text.size() - size) + 1)) return work.status();
  }
  stream.Finish(&text);
  return text;
}

std::string_view Tokenizer::kind() const {
  const bool bytes = parts_->decoder.spec().kind == DecoderSpec::Kind::kByteLevel;
  return bytes ? "byte-level BPE" : "SentencePiece BPE";
}

int32_t Tokenizer::vocab_size() const { return parts_->vocabulary.size(); }

std::optional<int32_t> Tokenizer::TokenToId(std::string_view token) const {
  return parts_->vocabulary.IdOf(token);
}

std::string_view Tokenizer::IdToToken(int32_t id) const { return parts_->vocabulary.TokenOf(id); }

std::string_view Tokenizer::TokenBytes(int32_t id) const { return parts_->decoder.piece(id).bytes; }

bool Tokenizer::IsSpecial(int32_t id) const { return parts_->decoder.piece(id).special; }

const Decoder& Tokenizer::decoder() const { return parts_->decoder; }

}  // namespace mea
