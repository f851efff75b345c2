#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kvcache/kv_layout.h"
#include "kvcache/page_pool.h"
#include "kvcache/page_table.h"
#include "kvcache/prefix_event.h"

namespace mea {

// Finds pages by their contents: the keys and values of full pages of tokens that follow given
// other pages. A page in the index stays findable and unchanged until the pool takes it for
// something else; sequences with the same beginning share it. Sequences of different salts share
// nothing. A lookup uses a hash of (previous entry, tokens, salt), then compares all three. An
// entry is a page of the first group, with the pages of the other groups that hold the same tokens,
// as far as they still exist: for a windowed group a prefix needs only the last ones. All memory is
// allocated at the start, according to the number of pages, except for salts; none while sequences
// run. Engine thread only; pool and layout must outlive it.
class PrefixIndex {
 public:
  PrefixIndex(PagePool* pool, const KvLayout* layout);

  // Shares the pages of the longest known, usable prefix of `tokens` with the empty `table`, but
  // always leaves at least one token to compute. Returns the number of tokens found.
  int Match(std::span<const int32_t> tokens, std::string_view salt, PageTable& table) const;

  // Pages [begin, end) of `table` are full now and hold these tokens of its sequence; the pages
  // before them are indexed already. If the content of a page is known already, the known page
  // replaces it in the table: both hold the same bits.
  void Insert(std::span<const int32_t> tokens, std::string_view salt, int begin, int end,
              PageTable& table);

  int num_entries() const { return num_entries_; }

  // Forgets all entries. Sequences keep their pages, and index no more of them.
  void Clear();

  // From here on, and with all entries that there are: what changes. Each call starts anew.
  void RecordEvents();
  void StopRecording();
  // What was recorded since the last call.
  std::vector<PrefixEvent> TakeEvents() { return std::exchange(events_, {}); }

 private:
  static constexpr int32_t kNone = PageTable::kNone;
  static constexpr int64_t kBeginning = 0;  // the number of the entry before a first page

  // Of a page of the first group.
  struct Entry {
    uint64_t hash = 0;
    int64_t number = 0;  // never reused, unlike page ids
    int64_t before = kBeginning;
    std::string salt;      // of a first page; the others inherit it
    int32_t next = kNone;  // the page of the next entry in the same bucket
  };

  // The indexed page that holds these tokens after `before`, or kNone.
  int32_t Find(int64_t before, std::span<const int32_t> tokens, std::string_view salt) const;
  // The indexed page of the table's entry i, or kNone.
  int64_t NumberOf(const PageTable& table, int i) const;
  // The longest usable part, in pages, of a prefix with these entries.
  int UsablePages(std::span<const int32_t> entries) const;
  bool IsIndexed(int32_t page) const { return owner_[page] != kNone; }
  int32_t& Bucket(uint64_t hash) { return buckets_[hash % buckets_.size()]; }
  // The tokens of an entry's page.
  std::span<int32_t> Content(int32_t page) {
    return std::span(tokens_).subspan(int64_t{page} * layout_->page_size, layout_->page_size);
  }
  std::span<const int32_t> Content(int32_t page) const {
    return const_cast<PrefixIndex*>(this)->Content(page);
  }
  // The pages of the other groups that belong to an entry, or kNone.
  std::span<int32_t> Others(int32_t page) {
    const int64_t count = layout_->num_groups() - 1;
    return std::span(others_).subspan(page * count, count);
  }
  std::span<const int32_t> Others(int32_t page) const {
    return const_cast<PrefixIndex*>(this)->Others(page);
  }
  void AddEntry(int32_t page, int64_t before, std::span<const int32_t> tokens,
                std::string_view salt);
  void AddOther(int32_t entry_page, int group, int32_t page);
  void Forget(int32_t page);
  void RecordStored(int32_t page);
  std::span<const int32_t> TokensOf(std::span<const int32_t> tokens, int page) const {
    return tokens.subspan(int64_t{page} * layout_->page_size, layout_->page_size);
  }

  PagePool* const pool_;
  const KvLayout* const layout_;
  std::vector<Entry> entries_;    // [num_pages]
  std::vector<int32_t> tokens_;   // [num_pages, page_size]
  std::vector<int32_t> others_;   // [num_pages, num_groups - 1]
  std::vector<int32_t> owner_;    // [num_pages] the page whose entry it belongs to, or kNone
  std::vector<int32_t> buckets_;  // [num_pages] the page of the first entry of a hash, or kNone
  int64_t num_numbers_ = 0;
  int num_entries_ = 0;
  bool records_events_ = false;
  std::vector<PrefixEvent> events_;
};

}  // namespace mea
