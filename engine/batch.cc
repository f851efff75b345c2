#include "engine/batch.h"

#include <algorithm>

namespace mea {

void Batch::Build(const Schedule& schedule, int page_size) {
  MEA_CHECK(!schedule.empty());
  groups_.resize(schedule[0].sequence->pages.num_groups());
  for (Group& group : groups_) group.slots.clear();
  token_ids_.clear();
  positions_.clear();
  kv_lens_.clear();
  q_offsets_.assign(1, 0);
  for (const ScheduledChunk& chunk : schedule) AppendSequence(chunk, page_size);
  FillPageTables(schedule);
}

void Batch::BuildBlank(std::span<const int> lengths, int num_groups, int page_size) {
  positions_.clear();
  kv_lens_.assign(lengths.begin(), lengths.end());
  q_offsets_.assign(1, 0);
  for (const int length : lengths) {
    for (int position = 0; position < length; ++position) positions_.push_back(position);
    q_offsets_.push_back(q_offsets_.back() + length);
  }
  token_ids_.assign(positions_.size(), 0);
  max_pages_ = (std::ranges::max(lengths) + page_size - 1) / page_size;
  groups_.resize(num_groups);
  for (Group& group : groups_) {
    group.slots.assign(positions_.size(), -1);
    group.page_table.assign(lengths.size() * max_pages_, 0);
  }
}

void Batch::PadTo(int num_rows) {
  MEA_CHECK(is_decode());
  while (num_tokens() < num_rows) {
    token_ids_.push_back(0);
    positions_.push_back(0);
    for (Group& group : groups_) group.slots.push_back(-1);
    q_offsets_.push_back(num_tokens());
    kv_lens_.push_back(0);
  }
  for (Group& group : groups_) group.page_table.resize(int64_t{num_rows} * max_pages_, 0);
}

int Batch::num_drawn_rows() const { return std::max(0, -std::ranges::min(token_ids_)); }

void Batch::AppendSequence(const ScheduledChunk& chunk, int page_size) {
  const Sequence& sequence = *chunk.sequence;
  for (int position = chunk.begin; position < chunk.end(); ++position) {
    token_ids_.push_back(sequence.tokens[position]);
    positions_.push_back(position);
  }
  for (int group = 0; group < num_groups(); ++group) {
    const std::span<const int32_t> pages = sequence.pages.pages(group);
    for (int position = chunk.begin; position < chunk.end(); ++position) {
      const int32_t page = pages[position / page_size];
      MEA_CHECK(page != PageTable::kNone);
      groups_[group].slots.push_back(page * page_size + position % page_size);
    }
  }
  q_offsets_.push_back(num_tokens());
  kv_lens_.push_back(chunk.end());
}

void Batch::FillPageTables(const Schedule& schedule) {
  max_pages_ = 0;
  int max_capacity = 0;
  for (const ScheduledChunk& chunk : schedule) {
    max_capacity = std::max(max_capacity, chunk.sequence->pages.capacity());
    for (int group = 0; group < num_groups(); ++group) {
      const auto size = static_cast<int>(chunk.sequence->pages.pages(group).size());
      max_pages_ = std::max(max_pages_, size);
    }
  }
  for (int group = 0; group < num_groups(); ++group) {
    std::vector<int32_t>& table = groups_[group].page_table;
    table.reserve(schedule.size() * max_capacity);
    table.assign(schedule.size() * max_pages_, 0);
    for (size_t i = 0; i < schedule.size(); ++i) {
      const std::span<const int32_t> pages = schedule[i].sequence->pages.pages(group);
      std::ranges::transform(pages, table.begin() + i * max_pages_,
                             [](int32_t page) { return std::max(page, 0); });
    }
  }
}

}  // namespace mea
