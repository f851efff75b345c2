#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kvcache/page_pool.h"
#include "kvcache/page_table.h"

namespace mea {

// Finds pages by what they hold: the keys and values of full pages of tokens, after certain other
// pages. A page in the index stays findable, and unchanged, until the pool takes it for something
// else; sequences that begin alike share it. Sequences of different salts share nothing. Looked up
// by a hash of (page before, tokens, salt), believed only after all three were compared.
// Engine thread only; the pool outlives it.
class PrefixIndex {
 public:
  PrefixIndex(PagePool* pool, int page_size);

  // Shares with the empty `table` the pages of the longest prefix of `tokens` that is known, but
  // always leaves at least one token to compute. The number of tokens found.
  int Match(std::span<const int32_t> tokens, std::string_view salt, PageTable& table) const;

  // Pages [begin, end) of `table` are full now, and hold these tokens of its sequence; the pages
  // before them are indexed already. A page whose content is known takes the known one's place in
  // the table: both hold the same bits.
  void Insert(std::span<const int32_t> tokens, std::string_view salt, int begin, int end,
              PageTable& table);

  int num_pages() const { return static_cast<int>(by_hash_.size()); }

 private:
  static constexpr int32_t kNone = -1;

  struct Entry {
    uint64_t hash = 0;
    int32_t before = kNone;       // the page before this one
    std::vector<int32_t> tokens;  // [page_size]; empty: the page is not indexed
    std::string salt;             // of a first page; the others have theirs by way of it
  };

  // The indexed page that holds these tokens after `before`, or kNone.
  int32_t Find(int32_t before, std::span<const int32_t> tokens, std::string_view salt) const;
  std::span<const int32_t> TokensOf(std::span<const int32_t> tokens, int page) const {
    return tokens.subspan(int64_t{page} * page_size_, page_size_);
  }
  void Forget(int32_t page);

  PagePool* const pool_;
  const int page_size_;
  std::vector<Entry> entries_;  // [num_pages]
  std::unordered_multimap<uint64_t, int32_t> by_hash_;
};

}  // namespace mea
