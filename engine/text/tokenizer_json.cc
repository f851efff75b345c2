#include "engine/text/tokenizer_json.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "engine/storage/json.h"
#include "engine/storage/mismatch.h"
#include "engine/text/json_node.h"
#include "engine/text/utf8.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

constexpr int kMaxNesting = 8;  // of Sequence in Sequence

void Unsupported(const JsonNode& node, const std::string& supported = "") {
  node.FailValue("is not supported" + (supported.empty() ? "" : " (" + supported + ")"));
}

// The members of a component that may be a Sequence of components, in order: {"type": "Sequence",
// `list`: [...]}, one component, or null.
std::vector<JsonNode> Flatten(const JsonNode& node, const std::string& list, int depth = 0) {
  if (node.absent()) return {};
  if (node.Get("type").String() != "Sequence") return {node};
  if (depth == kMaxNesting) {
    node.Fail("nests deeper than " + std::to_string(kMaxNesting));
    return {};
  }
  std::vector<JsonNode> flat;
  for (const JsonNode& item : node.Get(list).Array()) {
    const std::vector<JsonNode> inner = Flatten(item, list, depth + 1);
    flat.insert(flat.end(), inner.begin(), inner.end());
  }
  return flat;
}

// {"String": "..."} or {"Regex": "..."}.
std::optional<Regex> ReadPattern(const JsonNode& node) {
  const JsonNode literal = node.Find("String");
  if (literal.is_string()) {
    if (!literal.String().empty()) return Regex::Literal(literal.String());
    literal.Fail("is empty");
    return std::nullopt;
  }
  const JsonNode pattern = node.Get("Regex");
  absl::StatusOr<Regex> regex = Regex::Compile(pattern.String());
  if (regex.ok()) return *std::move(regex);
  pattern.FailValue("is not supported: " + ShownName(std::string(regex.status().message())));
  return std::nullopt;
}

// A string of exactly one code point.
std::string ReadCodePoint(const JsonNode& node) {
  const std::string text = node.String();
  if (text.empty() || CodePointSize(text[0]) != static_cast<int>(text.size())) {
    node.FailValue("is not one character");
  }
  return text;
}

// --- model

// The id of a token that the model must have.
int32_t RequireToken(const Vocabulary& vocabulary, const JsonNode& node, const std::string& token) {
  const std::optional<int32_t> id = vocabulary.IdOf(token);
  if (!id.has_value()) node.Fail("names " + ShownName(token) + ", which model.vocab lacks");
  return id.value_or(0);
}

void ReadVocabulary(const JsonNode& node, Vocabulary* vocabulary) {
  for (const auto& [token, id_node] : node.Members()) {
    const int32_t id = static_cast<int32_t>(id_node.Int(0, Vocabulary::kMaxId));
    if (vocabulary->Add(token, id)) continue;
    id_node.FailValue("is the id of " + ShownName(vocabulary->TokenOf(id)) + " too");
    return;
  }
  if (node.is_object() && vocabulary->size() == 0) node.Fail("is empty");
}

// "a b" or ["a", "b"].
std::optional<std::pair<std::string, std::string>> ReadMerge(const JsonNode& node) {
  if (node.is_array()) {
    const std::vector<JsonNode> pair = node.Array();
    if (pair.size() == 2) return std::pair{pair[0].String(), pair[1].String()};
  } else if (node.is_string()) {
    const std::string text = node.String();
    const size_t space = text.find(' ');
    if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos) {
      return std::pair(text.substr(0, space), text.substr(space + 1));
    }
  }
  node.FailValue("is not a pair of tokens");
  return std::nullopt;
}

void ReadMerges(const JsonNode& node, const Vocabulary& vocabulary,
                std::vector<Bpe::Merge>* merges) {
  for (const JsonNode& item : node.Array()) {
    if (item.is_string() && item.String().rfind("#version", 0) == 0) continue;
    const auto pair = ReadMerge(item);
    if (!pair.has_value() || !item.errors()->status().ok()) return;
    merges->push_back({RequireToken(vocabulary, item, pair->first),
                       RequireToken(vocabulary, item, pair->second),
                       RequireToken(vocabulary, item, pair->first + pair->second)});
  }
}

void ReadModel(const JsonNode& model, TokenizerSpec* spec) {
  const JsonNode type = model.Find("type");  // the oldest files leave it out
  if (!type.absent() && type.String() != "BPE") Unsupported(type, "BPE is");
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const JsonNode node = model.Find(affix);
    if (!node.absent() && !node.String().empty()) Unsupported(node);
  }
  const JsonNode dropout = model.Find("dropout");
  if (!dropout.absent() && *dropout.value() != 0) Unsupported(dropout, "it is for training");
  ReadVocabulary(model.Get("vocab"), &spec->vocabulary);
  std::vector<Bpe::Merge> merges;
  ReadMerges(model.Get("merges"), spec->vocabulary, &merges);
  Bpe::Options options{.byte_level = spec->pre_tokenizer.is_byte_level(),
                       .ignore_merges = model.Find("ignore_merges").Bool(false),
                       .byte_fallback = model.Find("byte_fallback").Bool(false),
                       .fuse_unk = model.Find("fuse_unk").Bool(false)};
  const JsonNode unk = model.Find("unk_token");
  if (!unk.absent()) options.unk_id = RequireToken(spec->vocabulary, unk, unk.String());
  if (model.errors()->status().ok()) spec->bpe = Bpe(spec->vocabulary, merges, options);
}

// --- added_tokens

void ReadAddedTokens(const JsonNode& node, TokenizerSpec* spec) {
  if (node.absent()) return;
  std::vector<bool> seen;
  for (const JsonNode& item : node.Array()) {
    const JsonNode content = item.Get("content"), id = item.Get("id");
    AddedToken token{.content = content.String(),
                     .id = static_cast<int32_t>(id.Int(0, Vocabulary::kMaxId)),
                     .special = item.Get("special").Bool(),
                     .single_word = item.Get("single_word").Bool(),
                     .lstrip = item.Get("lstrip").Bool(),
                     .rstrip = item.Get("rstrip").Bool(),
                     .normalized = item.Get("normalized").Bool()};
    if (!item.errors()->status().ok()) return;
    if (token.content.empty()) return content.Fail("is empty");
    if (spec->vocabulary.IdOf(token.content).value_or(token.id) != token.id) {
      return id.FailValue("is not " + std::to_string(*spec->vocabulary.IdOf(token.content)) +
                          ", the id of " + ShownName(token.content));
    }
    if (!spec->vocabulary.Add(token.content, token.id)) {
      return id.FailValue("is the id of " + ShownName(spec->vocabulary.TokenOf(token.id)) + " too");
    }
    seen.resize(spec->vocabulary.size());
    if (seen[token.id]) return content.FailValue("is there twice");
    seen[token.id] = true;
    spec->added_tokens.push_back(std::move(token));
  }
}

// --- normalizer

std::optional<NormalizerStep> ReadNormalizerStep(const JsonNode& node) {
  const JsonNode type_node = node.Get("type");
  const std::string type = type_node.String();
  if (type == "NFC") return UnicodeForm::kNfc;
  if (type == "NFD") return UnicodeForm::kNfd;
  if (type == "NFKC") return UnicodeForm::kNfkc;
  if (type == "NFKD") return UnicodeForm::kNfkd;
  if (type == "Prepend") return Prepend{node.Get("prepend").String()};
  if (type == "Lowercase") return Lowercase{};
  if (type == "Strip") {
    return Strip{.left = node.Get("strip_left").Bool(), .right = node.Get("strip_right").Bool()};
  }
  if (type == "Replace") {
    std::optional<Regex> pattern = ReadPattern(node.Get("pattern"));
    const std::string content = node.Get("content").String();
    if (!pattern.has_value()) return std::nullopt;
    return Replace{*std::move(pattern), content};
  }
  Unsupported(type_node, "NFC, NFD, NFKC, NFKD, Prepend, Replace, Lowercase and Strip are");
  return std::nullopt;
}

Normalizer ReadNormalizer(const JsonNode& node) {
  std::vector<NormalizerStep> steps;
  for (const JsonNode& item : Flatten(node, "normalizers")) {
    if (auto step = ReadNormalizerStep(item)) steps.push_back(*std::move(step));
  }
  return Normalizer(std::move(steps));
}

// --- pre_tokenizer

SplitBehavior ReadBehavior(const JsonNode& node) {
  const std::string behavior = node.String();
  if (behavior == "Isolated") return SplitBehavior::kIsolated;
  if (behavior == "Removed") return SplitBehavior::kRemoved;
  if (behavior == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (behavior == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (behavior == "Contiguous") return SplitBehavior::kContiguous;
  Unsupported(node);
  return SplitBehavior::kIsolated;
}

// "always", "first" or "never"; files before tokenizers 0.15 have add_prefix_space instead.
MetaspaceStep::Prepend ReadPrependScheme(const JsonNode& metaspace) {
  const JsonNode scheme = metaspace.Find("prepend_scheme");
  if (scheme.absent()) {
    return metaspace.Find("add_prefix_space").Bool(true) ? MetaspaceStep::Prepend::kAlways
                                                         : MetaspaceStep::Prepend::kNever;
  }
  if (scheme.String() == "first") return MetaspaceStep::Prepend::kFirst;
  if (scheme.String() == "never") return MetaspaceStep::Prepend::kNever;
  if (scheme.String() != "always") Unsupported(scheme);
  return MetaspaceStep::Prepend::kAlways;
}

std::optional<PreTokenizerStep> ReadPreTokenizerStep(const JsonNode& node) {
  const JsonNode type_node = node.Get("type");
  const std::string type = type_node.String();
  if (type == "Split") {
    std::optional<Regex> pattern = ReadPattern(node.Get("pattern"));
    const SplitBehavior behavior = ReadBehavior(node.Get("behavior"));
    const bool invert = node.Find("invert").Bool(false);
    if (!pattern.has_value()) return std::nullopt;
    return SplitStep{*std::move(pattern), behavior, invert};
  }
  if (type == "Digits") return DigitsStep{node.Get("individual_digits").Bool()};
  if (type == "ByteLevel") {
    return ByteLevelStep{.add_prefix_space = node.Get("add_prefix_space").Bool(),
                         .use_regex = node.Find("use_regex").Bool(true)};
  }
  if (type == "Metaspace") {
    return MetaspaceStep{.replacement = ReadCodePoint(node.Get("replacement")),
                         .prepend = ReadPrependScheme(node),
                         .split = node.Find("split").Bool(true)};
  }
  Unsupported(type_node, "Split, Digits, ByteLevel and Metaspace are");
  return std::nullopt;
}

PreTokenizer ReadPreTokenizer(const JsonNode& node) {
  std::vector<PreTokenizerStep> steps;
  for (const JsonNode& item : Flatten(node, "pretokenizers")) {
    if (!steps.empty() && std::holds_alternative<ByteLevelStep>(steps.back())) {
      item.Fail("follows ByteLevel, which is supported as the last step only");
    }
    if (auto step = ReadPreTokenizerStep(item)) steps.push_back(*std::move(step));
  }
  return PreTokenizer(std::move(steps));
}

// --- post_processor

std::vector<int32_t> ReadTemplateToken(const JsonNode& processor, const JsonNode& piece,
                                       const Vocabulary& vocabulary) {
  const JsonNode token = processor.Get("special_tokens").Get(piece.Get("id").String());
  std::vector<int32_t> ids;
  for (const JsonNode& node : token.Get("ids").Array()) {
    ids.push_back(static_cast<int32_t>(node.Int(0, Vocabulary::kMaxId)));
    if (!vocabulary.Has(ids.back())) node.FailValue("is the id of no token");
  }
  return ids;
}

// [special tokens..., $A, special tokens...], around the tokens of inner templates.
void ReadTemplate(const JsonNode& processor, TokenizerSpec* spec) {
  std::vector<int32_t> prefix, suffix;
  int num_sequences = 0;
  const JsonNode single = processor.Get("single");
  for (const JsonNode& piece : single.Array()) {
    const JsonNode sequence = piece.Find("Sequence");
    if (sequence.is_object() && sequence.Get("id").String() == "A") {
      ++num_sequences;
      continue;
    }
    const auto ids = ReadTemplateToken(processor, piece.Get("SpecialToken"), spec->vocabulary);
    auto& side = num_sequences == 0 ? prefix : suffix;
    side.insert(side.end(), ids.begin(), ids.end());
  }
  if (num_sequences != 1) single.Fail("does not have exactly one sequence A");
  spec->prefix.insert(spec->prefix.begin(), prefix.begin(), prefix.end());
  spec->suffix.insert(spec->suffix.end(), suffix.begin(), suffix.end());
}

void ReadPostProcessor(const JsonNode& node, TokenizerSpec* spec) {
  for (const JsonNode& item : Flatten(node, "processors")) {
    const JsonNode type = item.Get("type");
    if (type.String() == "TemplateProcessing") {
      ReadTemplate(item, spec);
    } else if (type.String() != "ByteLevel") {  // which changes offsets, and offsets are not used
      Unsupported(type, "TemplateProcessing and ByteLevel are");
    }
  }
}

// --- decoder

void ReadDecoderStep(const JsonNode& node, int* stage, DecoderSpec* spec) {
  enum Stage { kReplace, kByteFallback, kFuse, kStrip };  // in which they may follow one another
  const auto enter = [&](Stage next, bool once) {
    if (*stage > next || (once && *stage == next)) node.Get("type").FailValue("is out of order");
    *stage = next;
  };
  const JsonNode type = node.Get("type");
  if (type.String() == "Replace") {
    enter(kReplace, false);
    std::optional<Regex> pattern = ReadPattern(node.Get("pattern"));
    const std::string content = node.Get("content").String();
    if (pattern.has_value()) spec->replaces.push_back({*std::move(pattern), content});
  } else if (type.String() == "ByteFallback") {
    enter(kByteFallback, true);
    spec->byte_fallback = true;
  } else if (type.String() == "Fuse") {
    enter(kFuse, true);
  } else if (type.String() == "Strip") {
    if (*stage != kFuse) return type.FailValue("is supported right after Fuse only");
    enter(kStrip, true);
    spec->strip = ReadCodePoint(node.Get("content"));
    spec->strip_start = static_cast<int>(node.Get("start").Int(0, 1 << 20));
    const JsonNode stop = node.Get("stop");
    if (stop.Int(0, 1 << 20) != 0) Unsupported(stop, "0 is");
  } else {
    Unsupported(type, "Replace, ByteFallback, Fuse and Strip in this order are");
  }
}

DecoderSpec ReadDecoder(const JsonNode& node) {
  DecoderSpec spec;
  if (node.absent()) return spec;
  const std::vector<JsonNode> steps = Flatten(node, "decoders");
  if (steps.size() == 1) {
    const std::string type = steps[0].Get("type").String();
    if (type == "ByteLevel") {
      spec.kind = DecoderSpec::Kind::kByteLevel;
      return spec;
    }
    if (type == "Metaspace") {
      spec.kind = DecoderSpec::Kind::kMetaspace;
      spec.replacement = ReadCodePoint(steps[0].Get("replacement"));
      spec.drops_in_first = ReadPrependScheme(steps[0]) != MetaspaceStep::Prepend::kNever;
      return spec;
    }
  }
  spec.kind = DecoderSpec::Kind::kPieces;
  int stage = 0;
  for (const JsonNode& item : steps) ReadDecoderStep(item, &stage, &spec);
  return spec;
}

}  // namespace

absl::StatusOr<TokenizerSpec> ParseTokenizerJson(std::string_view json, const std::string& name) {
  MEA_ASSIGN_OR_RETURN(const nlohmann::json document, ParseJson(json, name));
  JsonErrors errors(name);
  const JsonNode root(&document, &errors);
  TokenizerSpec spec;
  spec.normalizer = ReadNormalizer(root.Find("normalizer"));
  spec.pre_tokenizer = ReadPreTokenizer(root.Find("pre_tokenizer"));
  ReadModel(root.Get("model"), &spec);  // bytes or code points, depending on the pre-tokenizer
  ReadAddedTokens(root.Find("added_tokens"), &spec);
  ReadPostProcessor(root.Find("post_processor"), &spec);
  spec.decoder = ReadDecoder(root.Find("decoder"));
  if (!errors.status().ok()) return errors.status();
  return spec;
}

}  // namespace mea
