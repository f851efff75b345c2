#include "kvcache/prefix_index.h"

#include <algorithm>
#include <utility>

#include "absl/hash/hash.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "kernels/check.h"

namespace mea {
namespace {

// The previous entry identifies all earlier tokens, so they are not hashed again.
uint64_t HashOf(int64_t before, std::span<const int32_t> tokens, absl::string_view first_salt) {
  return absl::HashOf(before, absl::MakeConstSpan(tokens.data(), tokens.size()), first_salt);
}

}  // namespace

PrefixIndex::PrefixIndex(PagePool* pool, const KvLayout* layout)
    : pool_(pool),
      layout_(layout),
      entries_(pool->num_pages()),
      tokens_(int64_t{pool->num_pages()} * layout->page_size),
      others_(int64_t{pool->num_pages()} * (layout->num_groups() - 1)),
      owner_(pool->num_pages(), kNone),
      buckets_(pool->num_pages(), kNone) {
  pool_->set_on_forget([this](int32_t page) { Forget(page); });
}

int32_t PrefixIndex::Find(int64_t before, std::span<const int32_t> tokens,
                          std::string_view salt) const {
  const absl::string_view first_salt =
      before == kBeginning ? absl::string_view(salt.data(), salt.size()) : absl::string_view();
  const uint64_t hash = HashOf(before, tokens, first_salt);
  int32_t page = buckets_[hash % buckets_.size()];
  for (; page != kNone; page = entries_[page].next) {
    const Entry& entry = entries_[page];
    if (entry.hash == hash && entry.before == before && std::ranges::equal(Content(page), tokens) &&
        (before != kBeginning || entry.salt == salt)) {
      break;
    }
  }
  return page;
}

int PrefixIndex::Match(std::span<const int32_t> tokens, std::string_view salt,
                       PageTable& table) const {
  MEA_CHECK(table.num_pages() == 0 && !tokens.empty());
  const int last_page = static_cast<int>((tokens.size() - 1) / layout_->page_size);
  std::vector<int32_t> found;
  int64_t before = kBeginning;
  for (int i = 0; i < last_page; ++i) {
    const int32_t page = Find(before, TokensOf(tokens, i), salt);
    if (page == kNone) break;
    found.push_back(page);
    before = entries_[page].number;
  }
  const int usable = UsablePages(found);
  const int num_tokens = usable * layout_->page_size;
  for (int group = 0; group < layout_->num_groups(); ++group) {
    const int first = layout_->FirstPage(group, num_tokens);
    table.Skip(group, first);
    for (int i = first; i < usable; ++i) {
      table.Share(group == 0 ? found[i] : Others(found[i])[group - 1], group);
    }
  }
  return num_tokens;
}

int PrefixIndex::UsablePages(std::span<const int32_t> entries) const {
  const int num_others = layout_->num_groups() - 1;
  std::vector<int> begins(num_others, 0);  // from where on the group's pages are all there
  int usable = 0;
  for (int i = 0; i < std::ssize(entries); ++i) {
    bool all_there = true;
    for (int other = 0; other < num_others; ++other) {
      if (Others(entries[i])[other] == kNone) begins[other] = i + 1;
      const int first = layout_->FirstPage(other + 1, (i + 1) * layout_->page_size);
      all_there &= begins[other] <= first;
    }
    if (all_there) usable = i + 1;
  }
  return usable;
}

int64_t PrefixIndex::NumberOf(const PageTable& table, int i) const {
  const int32_t page = table.pages()[i];
  return page == kNone || owner_[page] != page ? kNone : entries_[page].number;
}

void PrefixIndex::Insert(std::span<const int32_t> tokens, std::string_view salt, int begin, int end,
                         PageTable& table) {
  int64_t before = begin == 0 ? kBeginning : NumberOf(table, begin - 1);
  for (int i = begin; i < end && before != kNone; ++i) {
    const int32_t page = table.pages()[i];
    if (page == kNone) return;  // its window has already left it
    const std::span<const int32_t> content = TokensOf(tokens, i);
    const int32_t known = Find(before, content, salt);
    if (known == kNone) {
      AddEntry(page, before, content, before == kBeginning ? salt : std::string_view());
    } else if (known != page) {
      table.Replace(0, i, known);
    }
    const int32_t entry_page = table.pages()[i];
    for (int group = 1; group < layout_->num_groups(); ++group) {
      const int32_t mine = table.pages(group)[i];
      const int32_t other = Others(entry_page)[group - 1];
      if (mine == kNone || mine == other) continue;
      if (other == kNone) {
        AddOther(entry_page, group, mine);
      } else {
        table.Replace(group, i, other);
      }
    }
    before = entries_[entry_page].number;
  }
}

void PrefixIndex::AddEntry(int32_t page, int64_t before, std::span<const int32_t> tokens,
                           std::string_view salt) {
  MEA_CHECK(!IsIndexed(page));
  Entry& entry = entries_[page];
  entry.hash = HashOf(before, tokens, absl::string_view(salt.data(), salt.size()));
  entry.number = ++num_numbers_;
  entry.before = before;
  entry.salt.assign(salt);
  entry.next = std::exchange(Bucket(entry.hash), page);
  std::ranges::copy(tokens, Content(page).begin());
  std::ranges::fill(Others(page), kNone);
  owner_[page] = page;
  ++num_entries_;
  pool_->Keep(page);
  if (records_events_) RecordStored(page);
}

void PrefixIndex::RecordStored(int32_t page) {
  const Entry& entry = entries_[page];
  const std::span<const int32_t> tokens = Content(page);
  events_.push_back({.kind = PrefixEvent::Kind::kStored,
                     .entry = entry.number,
                     .before = entry.before,
                     .tokens = {tokens.begin(), tokens.end()},
                     .salt = entry.salt});
}

void PrefixIndex::RecordEvents() {
  records_events_ = true;
  events_ = {{.kind = PrefixEvent::Kind::kCleared}};
  std::vector<int32_t> pages;
  for (int32_t page = 0; page < std::ssize(owner_); ++page) {
    if (owner_[page] == page) pages.push_back(page);
  }
  // An entry comes after the one that it follows.
  std::ranges::sort(pages, {}, [this](int32_t page) { return entries_[page].number; });
  for (const int32_t page : pages) RecordStored(page);
}

void PrefixIndex::StopRecording() {
  records_events_ = false;
  events_.clear();
}

void PrefixIndex::Clear() {
  const bool records_events = std::exchange(records_events_, false);
  for (int32_t page = 0; page < std::ssize(owner_); ++page) {
    if (owner_[page] != page) continue;
    Forget(page);
    pool_->Drop(page);
  }
  records_events_ = records_events;
  if (records_events_) events_.push_back({.kind = PrefixEvent::Kind::kCleared});
}

void PrefixIndex::AddOther(int32_t entry_page, int group, int32_t page) {
  MEA_CHECK(!IsIndexed(page));
  Others(entry_page)[group - 1] = page;
  owner_[page] = entry_page;
  pool_->Keep(page);
}

void PrefixIndex::Forget(int32_t page) {
  const int32_t owner = std::exchange(owner_[page], kNone);
  if (owner != page) {
    std::ranges::replace(Others(owner), page, kNone);
    return;
  }
  int32_t* link = &Bucket(entries_[page].hash);
  while (*link != page) link = &entries_[*link].next;
  *link = entries_[page].next;
  for (const int32_t other : Others(page)) {
    if (other == kNone) continue;
    owner_[other] = kNone;
    pool_->Drop(other);
  }
  entries_[page].salt.clear();
  --num_entries_;
  if (records_events_) {
    events_.push_back({.kind = PrefixEvent::Kind::kRemoved, .entry = entries_[page].number});
  }
}

}  // namespace mea
