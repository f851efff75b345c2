#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kvcache/kv_layout.h"
#include "kvcache/page_pool.h"
#include "kvcache/page_table.h"

namespace mea {

// Finds pages by what they hold: the keys and values of full pages of tokens, after certain other
// pages. A page in the index stays findable, and unchanged, until the pool takes it for something
// else; sequences that begin alike share it. Sequences of different salts share nothing. Looked up
// by a hash of (entry before, tokens, salt), believed only after all three were compared.
// An entry is a page of the first group, with those that hold the same tokens of the other groups
// as far as they are still there: of a windowed group a prefix needs the last ones alone. Engine
// thread only; pool and layout outlive it.
class PrefixIndex {
 public:
  PrefixIndex(PagePool* pool, const KvLayout* layout);

  // Shares with the empty `table` the pages of the longest prefix of `tokens` that is known and
  // that can be gone on from, but always leaves at least one token to compute. The number of tokens
  // found.
  int Match(std::span<const int32_t> tokens, std::string_view salt, PageTable& table) const;

  // Pages [begin, end) of `table` are full now, and hold these tokens of its sequence; the pages
  // before them are indexed already. A page whose content is known takes the known one's place in
  // the table: both hold the same bits.
  void Insert(std::span<const int32_t> tokens, std::string_view salt, int begin, int end,
              PageTable& table);

  int num_entries() const { return static_cast<int>(by_hash_.size()); }

 private:
  static constexpr int32_t kNone = PageTable::kNone;
  static constexpr int64_t kBeginning = 0;  // the number of what is before a first page

  // Of a page of the first group.
  struct Entry {
    uint64_t hash = 0;
    int64_t number = 0;  // never given twice: page ids are
    int64_t before = kBeginning;
    std::vector<int32_t> tokens;  // [page_size]
    std::string salt;             // of a first page; the others have theirs by way of it
    std::vector<int32_t> others;  // [num_groups - 1] the other groups' pages, or kNone
  };

  // The indexed page that holds these tokens after `before`, or kNone.
  int32_t Find(int64_t before, std::span<const int32_t> tokens, std::string_view salt) const;
  // What the table's entry i is known as, or kNone.
  int64_t NumberOf(const PageTable& table, int i) const;
  // The longest usable part of a prefix, in pages, of which these are the entries.
  int UsablePages(std::span<const int32_t> entries) const;
  bool IsIndexed(int32_t page) const { return owner_[page] != kNone; }
  void AddEntry(int32_t page, Entry entry);
  void AddOther(int32_t entry_page, int group, int32_t page);
  void Forget(int32_t page);
  std::span<const int32_t> TokensOf(std::span<const int32_t> tokens, int page) const {
    return tokens.subspan(int64_t{page} * layout_->page_size, layout_->page_size);
  }

  PagePool* const pool_;
  const KvLayout* const layout_;
  std::vector<Entry> entries_;  // [num_pages]
  std::vector<int32_t> owner_;  // [num_pages] the page whose entry it belongs to, or kNone
  int64_t num_numbers_ = 0;
  std::unordered_multimap<uint64_t, int32_t> by_hash_;
};

}  // namespace mea
