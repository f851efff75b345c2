#include "kvcache/prefix_index.h"

#include <algorithm>

#include "absl/hash/hash.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "kernels/check.h"

namespace mea {
namespace {

// The page before stands for all that is before it, so no hash of that needs to be carried along.
uint64_t HashOf(int32_t before, std::span<const int32_t> tokens, std::string_view salt) {
  const absl::string_view first_salt =
      before >= 0 ? absl::string_view() : absl::string_view(salt.data(), salt.size());
  return absl::HashOf(before, absl::MakeConstSpan(tokens.data(), tokens.size()), first_salt);
}

}  // namespace

PrefixIndex::PrefixIndex(PagePool* pool, int page_size)
    : pool_(pool), page_size_(page_size), entries_(pool->num_pages()) {
  pool_->set_on_forget([this](int32_t page) { Forget(page); });
}

int32_t PrefixIndex::Find(int32_t before, std::span<const int32_t> tokens,
                          std::string_view salt) const {
  const auto [first, last] = by_hash_.equal_range(HashOf(before, tokens, salt));
  for (auto it = first; it != last; ++it) {
    const Entry& entry = entries_[it->second];
    if (entry.before == before && std::ranges::equal(entry.tokens, tokens) &&
        (before != kNone || entry.salt == salt)) {
      return it->second;
    }
  }
  return kNone;
}

int PrefixIndex::Match(std::span<const int32_t> tokens, std::string_view salt,
                       PageTable& table) const {
  MEA_CHECK(table.num_pages() == 0 && !tokens.empty());
  const int last_page = static_cast<int>((tokens.size() - 1) / page_size_);
  int32_t before = kNone;
  for (int i = 0; i < last_page; ++i) {
    const int32_t page = Find(before, TokensOf(tokens, i), salt);
    if (page == kNone) break;
    table.Share(page);
    before = page;
  }
  return table.num_pages() * page_size_;
}

void PrefixIndex::Insert(std::span<const int32_t> tokens, std::string_view salt, int begin, int end,
                         PageTable& table) {
  for (int i = begin; i < end; ++i) {
    const int32_t before = i == 0 ? kNone : table.pages()[i - 1];
    const std::span<const int32_t> content = TokensOf(tokens, i);
    const int32_t page = table.pages()[i];
    const int32_t known = Find(before, content, salt);
    if (known == page) continue;
    if (known != kNone) {
      table.Replace(i, known);
      continue;
    }
    MEA_CHECK(entries_[page].tokens.empty());
    const uint64_t hash = HashOf(before, content, salt);
    entries_[page] = {.hash = hash,
                      .before = before,
                      .tokens = {content.begin(), content.end()},
                      .salt = before == kNone ? std::string(salt) : std::string()};
    by_hash_.emplace(hash, page);
    pool_->Keep(page);
  }
}

void PrefixIndex::Forget(int32_t page) {
  const auto [first, last] = by_hash_.equal_range(entries_[page].hash);
  const auto it = std::find_if(first, last, [&](const auto& item) { return item.second == page; });
  MEA_CHECK(it != last);
  by_hash_.erase(it);
  entries_[page] = {};
}

}  // namespace mea
