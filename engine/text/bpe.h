#pragma once

#include <absl/container/flat_hash_map.h>

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/text_work.h"
#include "engine/text/vocabulary.h"

namespace mea {

// Pair of neighbouring ids -> rank of its merge and the id it gives. Open addressing, read only.
class MergeTable {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  struct Merge {
    uint32_t rank = kNone;  // lower merges first
    int32_t id = -1;
  };

  void Reserve(size_t num_merges);  // before the first Insert
  void Insert(int32_t left, int32_t right, Merge merge);

  Merge Find(int32_t left, int32_t right) const {
    const uint64_t key = KeyOf(left, right);
    for (size_t slot = SlotOf(key);; slot = (slot + 1) & mask_) {
      if (slots_[slot].key == key) return slots_[slot].merge;
      if (slots_[slot].key == kFree) return {};
    }
  }

 private:
  static constexpr uint64_t kFree = UINT64_MAX;

  struct Slot {
    uint64_t key = kFree;
    Merge merge;
  };

  static uint64_t KeyOf(int32_t left, int32_t right) {
    return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  }
  size_t SlotOf(uint64_t key) const { return (key * 0x9e3779b97f4a7c15u) >> shift_; }

  std::vector<Slot> slots_ = std::vector<Slot>(2);  // a power of two, at most half full
  size_t mask_ = 1;
  int shift_ = 63;
};

// Byte pair encoding of one word: of its code points or bytes, the neighbours with the lowest rank
// merge first; of equal ranks, the leftmost. Immutable.
class Bpe {
 public:
  struct Options {
    bool byte_level = false;        // symbols are bytes, else code points
    bool ignore_merges = false;     // a word that is a token is that token
    bool byte_fallback = false;     // unknown code points become byte tokens
    bool fuse_unk = false;          // unknown neighbours become one unk_id
    std::optional<int32_t> unk_id;  // without it unknown symbols vanish
  };
  struct Merge {
    int32_t left, right, merged;
  };

  Bpe() : Bpe({}, {}, {}) {}
  // `vocabulary` is the model's, without added tokens. `merges` are pairs of its ids in the order
  // of their ranks.
  Bpe(const Vocabulary& vocabulary, const std::vector<Merge>& merges, const Options& options);

  // Appends the ids of `word`, which is valid UTF-8 unless byte_level. O(n log n).
  void Encode(std::string_view word, TextWork& work, std::vector<int32_t>* ids) const;

 private:
  void EncodeBytes(std::string_view word, TextWork& work, std::vector<int32_t>* ids) const;
  void EncodeCodePoints(std::string_view word, TextWork& work, std::vector<int32_t>* ids) const;
  bool AppendFallbackBytes(std::string_view code_point, std::vector<int32_t>* symbols) const;
  // Merges `ids` from `begin` on, in place.
  void MergeFrom(size_t begin, TextWork& work, std::vector<int32_t>* ids) const;
  void MergeShort(size_t begin, std::vector<int32_t>* ids) const;
  void MergeLong(size_t begin, TextWork& work, std::vector<int32_t>* ids) const;

  using StringIds = absl::flat_hash_map<std::string, int32_t, StringHash, std::equal_to<>>;

  int32_t CodePointId(char32_t c) const {  // -1 unknown
    return c < code_point_ids_.size() ? code_point_ids_[c] : -1;
  }

  Options options_;
  MergeTable merges_;
  std::array<int32_t, 256> byte_ids_;      // byte_level: of the byte's symbol, -1 unknown
  std::array<int32_t, 256> fallback_ids_;  // byte_fallback: of "<0xNN>", -1 unknown
  std::vector<int32_t> code_point_ids_;    // else: of the code point, up to the largest there is
  StringIds whole_words_;                  // ignore_merges: of every token as a word
  bool words_begin_at_metaspace_ = false;
};

}  // namespace mea
