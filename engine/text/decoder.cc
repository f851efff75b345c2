#include "engine/text/decoder.h"

#include <algorithm>

namespace mea {
namespace {

// `text` with every `from` replaced.
std::string ReplaceMark(std::string_view text, std::string_view from, std::string_view to) {
  std::string result;
  for (size_t at = 0; at < text.size();) {
    const bool found = text.substr(at, from.size()) == from;
    if (found) {
      result += to;
    } else {
      result += text[at];
    }
    at += found ? from.size() : 1;
  }
  return result;
}

}  // namespace

Decoder::Decoder(DecoderSpec spec, const Vocabulary& vocabulary,
                 const std::vector<AddedToken>& added, const Normalizer& normalizer)
    : spec_(std::move(spec)), vocabulary_(&vocabulary) {
  TextWork work;
  for (const AddedToken& token : added) {
    std::string buffer;
    if (!token.normalized) continue;
    const std::string_view normalized = normalizer.Apply(token.content, &buffer, work);
    if (normalized != token.content) normalized_content_.emplace(token.id, normalized);
  }
  pieces_.resize(vocabulary.size());
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    if (!vocabulary.Has(id)) continue;
    const auto it = normalized_content_.find(id);
    pieces_[id] = PieceOf(it == normalized_content_.end() ? vocabulary.TokenOf(id) : it->second);
  }
  for (const AddedToken& token : added) pieces_[token.id].special = token.special;
}

Decoder::Piece Decoder::PieceOf(const std::string& token) const {
  Piece piece{.bytes = token, .known = true};
  switch (spec_.kind) {
    case DecoderSpec::Kind::kJoinWithSpaces:
      break;
    case DecoderSpec::Kind::kByteLevel:
      piece.bytes = ByteLevelBytes(token).value_or(token);
      break;
    case DecoderSpec::Kind::kMetaspace:
      piece.bytes = ReplaceMark(token, spec_.replacement, " ");
      break;
    case DecoderSpec::Kind::kPieces:
      TextWork work;
      for (const Replace& replace : spec_.replaces) {
        piece.bytes = ReplaceAll(replace, piece.bytes, work);
      }
      const auto byte = spec_.byte_fallback ? ByteFallbackByte(piece.bytes) : std::nullopt;
      piece.is_byte = byte.has_value();
      if (byte.has_value()) piece.bytes = std::string(1, static_cast<char>(*byte));
      break;
  }
  return piece;
}

const Decoder::Piece& Decoder::piece(int32_t id) const {
  static const Piece none;
  return id >= 0 && id < static_cast<int32_t>(pieces_.size()) ? pieces_[id] : none;
}

std::string Decoder::FirstPiece(int32_t id) const {
  const auto it = normalized_content_.find(id);
  const std::string& token =
      it == normalized_content_.end() ? vocabulary_->TokenOf(id) : it->second;
  return ReplaceMark(token, spec_.replacement, spec_.drops_in_first ? "" : " ");
}

void DecodeStream::Push(int32_t id, std::string* text) {
  const Decoder::Piece& piece = decoder_->piece(id);
  if (!piece.known) return;
  if (piece.special && skip_special_ && !std::binary_search(shown_.begin(), shown_.end(), id)) {
    return;
  }
  const bool first = first_;
  first_ = false;
  switch (decoder_->spec().kind) {
    case DecoderSpec::Kind::kJoinWithSpaces:
      if (!first) text->append(" ");
      text->append(piece.bytes);
      return;
    case DecoderSpec::Kind::kByteLevel:
      return assembler_.Push(piece.bytes, text);
    case DecoderSpec::Kind::kMetaspace:
      text->append(first ? decoder_->FirstPiece(id) : piece.bytes);
      return;
    case DecoderSpec::Kind::kPieces:
      if (piece.is_byte) return PushRunByte(piece.bytes[0]);
      CloseRun(text);
      return Emit(piece.bytes, text);
  }
}

void DecodeStream::PushRunByte(char byte) {
  run_.push_back(byte);
  if (run_broken_) return;
  const Utf8Unit unit = FirstUtf8Unit(std::string_view(run_).substr(run_complete_));
  if (unit.valid) run_complete_ = run_.size();
  if (!unit.valid && !unit.cut_off) run_broken_ = true;
}

void DecodeStream::CloseRun(std::string* text) {
  if (run_complete_ == run_.size()) {
    Emit(run_, text);
  } else {
    for (size_t i = 0; i < run_.size(); ++i) Emit(kReplacementCharacter, text);
  }
  run_.clear();
  run_complete_ = 0;
  run_broken_ = false;
}

void DecodeStream::Emit(std::string_view piece, std::string* text) {
  const std::string_view strip = decoder_->spec().strip;
  while (strip_left_ > 0 && !piece.empty()) {
    if (piece.substr(0, strip.size()) == strip) {
      piece.remove_prefix(strip.size());
      --strip_left_;
    } else {
      strip_left_ = 0;
    }
  }
  text->append(piece);
}

void DecodeStream::Finish(std::string* text) {
  assembler_.Finish(text);
  CloseRun(text);
}

void DecodeStream::BeginContinuation() {
  std::string text;
  const std::string open = run_broken_ ? "" : run_.substr(run_complete_);
  run_ = run_.substr(0, run_complete_);
  CloseRun(&text);
  run_ = open;
}

std::string_view DecodeStream::OpenRun() const {
  const std::string& strip = decoder_->spec().strip;
  const bool is_stripped = strip_left_ > 0 && run_.compare(0, strip.size(), strip) == 0;
  if (run_broken_ || is_stripped) return {};
  return std::string_view(run_).substr(0, run_complete_);
}

}  // namespace mea
