#include "engine/text/bpe.h"

#include <algorithm>
#include <bit>
#include <queue>

#include "engine/text/utf8.h"

namespace mea {
namespace {

constexpr char32_t kMetaspace = 0x2581;  // ▁

// Words of up to this many symbols merge in an array: for few ranks a linear search is faster than
// a queue.
constexpr size_t kShortWord = 32;

// Whether a token like "a▁" exists, so that merges may reach across the beginning of a word.
bool HasInnerMetaspace(std::string_view token) {
  bool only_marks = true;
  for (size_t at = 0; at < token.size(); at += CodePointSize(token[at])) {
    const bool mark = CodePointAt(token, at) == kMetaspace;
    if (mark && !only_marks) return true;
    only_marks = only_marks && mark;
  }
  return false;
}

}  // namespace

void MergeTable::Reserve(size_t num_merges) {
  const size_t num_slots = std::bit_ceil(2 * num_merges + 2);
  slots_.assign(num_slots, {});
  mask_ = num_slots - 1;
  shift_ = 64 - std::countr_zero(num_slots);
}

void MergeTable::Insert(int32_t left, int32_t right, Merge merge) {
  const uint64_t key = KeyOf(left, right);
  size_t slot = SlotOf(key);
  while (slots_[slot].key != kFree && slots_[slot].key != key) slot = (slot + 1) & mask_;
  slots_[slot] = {key, merge};  // of two merges of the same pair the later one counts
}

Bpe::Bpe(const Vocabulary& vocabulary, const std::vector<Merge>& merges, const Options& options)
    : options_(options) {
  const auto id_or_none = [&](std::string_view token) {
    return vocabulary.IdOf(token).value_or(-1);
  };
  for (int byte = 0; byte < 256; ++byte) {
    byte_ids_[byte] = id_or_none(ByteLevelCodePoint(byte));
    fallback_ids_[byte] = id_or_none(ByteFallbackToken(byte));
  }
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    const std::string& token = vocabulary.TokenOf(id);
    if (token.empty()) continue;
    if (CodePointSize(token[0]) == static_cast<int>(token.size())) {
      const char32_t c = CodePointAt(token, 0);
      if (c >= code_point_ids_.size()) code_point_ids_.resize(c + 1, -1);
      code_point_ids_[c] = id;
    }
    if (!options.ignore_merges) continue;
    const auto word = options.byte_level ? ByteLevelBytes(token) : token;
    if (word.has_value()) whole_words_.emplace(*word, id);
  }
  words_begin_at_metaspace_ = CodePointId(kMetaspace) >= 0;
  merges_.Reserve(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const Merge& merge = merges[rank];
    merges_.Insert(merge.left, merge.right, {static_cast<uint32_t>(rank), merge.merged});
    if (HasInnerMetaspace(vocabulary.TokenOf(merge.merged))) words_begin_at_metaspace_ = false;
  }
}

void Bpe::Encode(std::string_view word, TextWork& work, std::vector<int32_t>* ids) const {
  if (!work.Go(static_cast<int64_t>(word.size()))) return;
  if (options_.ignore_merges) {
    const auto it = whole_words_.find(word);
    if (it != whole_words_.end()) return ids->push_back(it->second);
  }
  if (options_.byte_level) {
    EncodeBytes(word, work, ids);
  } else {
    EncodeCodePoints(word, work, ids);
  }
}

void Bpe::EncodeBytes(std::string_view word, TextWork& work, std::vector<int32_t>* ids) const {
  const size_t begin = ids->size();
  bool unknown_before = false;
  for (const char c : word) {
    const int32_t id = byte_ids_[static_cast<uint8_t>(c)];
    const bool fused = unknown_before && options_.fuse_unk;
    unknown_before = id < 0;
    if (id >= 0) {
      ids->push_back(id);
    } else if (options_.unk_id.has_value() && !fused) {
      ids->push_back(*options_.unk_id);
    }
  }
  MergeFrom(begin, work, ids);
}

void Bpe::EncodeCodePoints(std::string_view word, TextWork& work, std::vector<int32_t>* ids) const {
  size_t begin = ids->size();
  bool in_word = false;  // the last code point was not a metaspace
  bool has_unk = false;  // an unk_id waits for the next known code point, as with Hugging Face
  const auto flush_unk = [&] {
    if (has_unk) ids->push_back(*options_.unk_id);
    has_unk = false;
  };
  for (size_t at = 0, size; at < word.size() && work.Go(1); at += size) {
    size = CodePointSize(word[at]);
    const char32_t c = CodePointAt(word, at);
    if (c == kMetaspace && in_word && words_begin_at_metaspace_) {
      flush_unk();
      MergeFrom(begin, work, ids);
      begin = ids->size();
    }
    in_word = c != kMetaspace;
    const int32_t id = CodePointId(c);
    if (id >= 0) {
      flush_unk();
      ids->push_back(id);
    } else if (options_.byte_fallback && AppendFallbackBytes(word.substr(at, size), ids)) {
      continue;
    } else if (options_.unk_id.has_value()) {
      if (!options_.fuse_unk) flush_unk();
      has_unk = true;
    }
  }
  flush_unk();
  MergeFrom(begin, work, ids);
}

bool Bpe::AppendFallbackBytes(std::string_view code_point, std::vector<int32_t>* symbols) const {
  const auto id_of = [&](char c) { return fallback_ids_[static_cast<uint8_t>(c)]; };
  if (std::any_of(code_point.begin(), code_point.end(), [&](char c) { return id_of(c) < 0; })) {
    return false;
  }
  for (const char c : code_point) symbols->push_back(id_of(c));
  return true;
}

void Bpe::MergeFrom(size_t begin, TextWork& work, std::vector<int32_t>* ids) const {
  const size_t count = ids->size() - begin;
  if (count < 2) return;
  if (count <= kShortWord) {
    MergeShort(begin, ids);
  } else {
    MergeLong(begin, work, ids);
  }
}

void Bpe::MergeShort(size_t begin, std::vector<int32_t>* ids) const {
  int32_t* id = ids->data() + begin;
  int count = static_cast<int>(ids->size() - begin);
  std::array<MergeTable::Merge, kShortWord> pairs;  // pairs[i]: of id[i] and id[i + 1]
  for (int i = 0; i + 1 < count; ++i) pairs[i] = merges_.Find(id[i], id[i + 1]);
  while (count > 1) {
    int best = 0;
    for (int i = 1; i + 1 < count; ++i) {
      if (pairs[i].rank < pairs[best].rank) best = i;
    }
    if (pairs[best].rank == MergeTable::kNone) break;
    id[best] = pairs[best].id;
    std::copy(id + best + 2, id + count, id + best + 1);
    std::copy(pairs.begin() + best + 1, pairs.begin() + count - 1, pairs.begin() + best);
    --count;
    if (best > 0) pairs[best - 1] = merges_.Find(id[best - 1], id[best]);
    if (best + 1 < count) pairs[best] = merges_.Find(id[best], id[best + 1]);
  }
  ids->resize(begin + count);
}

void Bpe::MergeLong(size_t begin, TextWork& work, std::vector<int32_t>* ids) const {
  struct Symbol {
    int32_t id;  // -1: merged into the one before
    int32_t previous, next;
    MergeTable::Merge pair;  // with the next one
  };
  // Ordered by rank, then by place: both in one number.
  using Candidate = uint64_t;
  const auto candidate = [](uint32_t rank, int32_t at) -> Candidate {
    return uint64_t{rank} << 32 | static_cast<uint32_t>(at);
  };
  const int32_t count = static_cast<int32_t>(ids->size() - begin);
  std::vector<Symbol> symbols(count);
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  for (int32_t i = 0; i < count && work.Go(1); ++i) {
    const bool last = i + 1 == count;
    const int32_t id = (*ids)[begin + i];
    const auto pair = last ? MergeTable::Merge{} : merges_.Find(id, (*ids)[begin + i + 1]);
    symbols[i] = {id, i - 1, last ? -1 : i + 1, pair};
    if (pair.rank != MergeTable::kNone) queue.push(candidate(pair.rank, i));
  }
  const auto renew_pair = [&](int32_t at) {
    Symbol& symbol = symbols[at];
    symbol.pair =
        symbol.next < 0 ? MergeTable::Merge{} : merges_.Find(symbol.id, symbols[symbol.next].id);
    if (symbol.pair.rank != MergeTable::kNone) queue.push(candidate(symbol.pair.rank, at));
  };
  while (!queue.empty() && work.Go(1)) {
    const uint32_t rank = queue.top() >> 32;
    const int32_t at = static_cast<int32_t>(queue.top());
    queue.pop();
    Symbol& symbol = symbols[at];
    if (symbol.id < 0 || symbol.pair.rank != rank) continue;  // its pair has changed
    Symbol& gone = symbols[symbol.next];
    symbol.id = symbol.pair.id;
    symbol.next = gone.next;
    gone.id = -1;
    if (symbol.next >= 0) symbols[symbol.next].previous = at;
    renew_pair(at);
    if (symbol.previous >= 0) renew_pair(symbol.previous);
  }
  if (work.stopped()) return;
  ids->resize(begin);
  for (int32_t at = 0; at >= 0; at = symbols[at].next) ids->push_back(symbols[at].id);
}

}  // namespace mea
