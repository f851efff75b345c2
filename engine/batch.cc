#include "engine/batch.h"

#include <algorithm>

namespace mea {

void Batch::Build(const Schedule& schedule, int page_size) {
  token_ids_.clear();
  positions_.clear();
  slots_.clear();
  kv_lens_.clear();
  q_offsets_.assign(1, 0);
  for (const ScheduledChunk& chunk : schedule) AppendSequence(chunk, page_size);
  FillPageTable(schedule);
}

void Batch::PadTo(int num_rows) {
  MEA_CHECK(is_decode());
  while (num_tokens() < num_rows) {
    token_ids_.push_back(0);
    positions_.push_back(0);
    slots_.push_back(-1);
    q_offsets_.push_back(num_tokens());
    kv_lens_.push_back(0);
  }
  page_table_.resize(int64_t{num_rows} * max_pages_, 0);
}

void Batch::AppendSequence(const ScheduledChunk& chunk, int page_size) {
  const Sequence& sequence = *chunk.sequence;
  const std::span<const int32_t> pages = sequence.pages.pages();
  for (int position = chunk.begin; position < chunk.end(); ++position) {
    token_ids_.push_back(sequence.tokens[position]);
    positions_.push_back(position);
    slots_.push_back(pages[position / page_size] * page_size + position % page_size);
  }
  q_offsets_.push_back(num_tokens());
  kv_lens_.push_back(chunk.end());
}

void Batch::FillPageTable(const Schedule& schedule) {
  max_pages_ = 0;
  for (const ScheduledChunk& chunk : schedule) {
    max_pages_ = std::max(max_pages_, chunk.sequence->pages.num_pages());
  }
  page_table_.assign(schedule.size() * max_pages_, 0);
  for (size_t i = 0; i < schedule.size(); ++i) {
    const std::span<const int32_t> pages = schedule[i].sequence->pages.pages();
    std::copy(pages.begin(), pages.end(), page_table_.begin() + i * max_pages_);
  }
}

}  // namespace mea
