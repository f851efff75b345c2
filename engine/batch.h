#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/scheduler.h"
#include "kernels/tensor.h"

namespace mea {

// One step as flat arrays; rows of prompts and of decoding sequences together. The rows of sequence
// s are [q_offsets[s], q_offsets[s + 1]); they see kv_lens[s] cached tokens, their own included.
// Reused from step to step; the views are valid until the next Build.
class Batch {
 public:
  void Build(const Schedule& schedule, int page_size);
  // A step that sees pages of zeros and stores nothing: sequences of `lengths` rows.
  void BuildBlank(std::span<const int> lengths, int num_groups, int page_size);
  // Pads a step of single rows to `num_rows` rows; the padding sees nothing and stores nothing.
  void PadTo(int num_rows);

  // Rows of the step before whose draws this one embeds: the most that any token names.
  int num_drawn_rows() const;
  // Every sequence has one row.
  bool is_decode() const { return num_tokens() == num_seqs(); }

  int num_tokens() const { return static_cast<int>(token_ids_.size()); }
  int num_seqs() const { return static_cast<int>(kv_lens_.size()); }
  int first_row(int seq) const { return q_offsets_[seq]; }
  int last_row(int seq) const { return q_offsets_[seq + 1] - 1; }

  TensorView token_ids() const { return View(token_ids_); }  // [num_tokens]
  TensorView positions() const { return View(positions_); }  // [num_tokens]
  // For each group of layers in the cache (KvLayout): [num_tokens] page * page_size + offset.
  TensorView slots(int group = 0) const { return View(groups_[group].slots); }
  TensorView q_offsets() const { return View(q_offsets_); }  // [num_seqs + 1]
  TensorView kv_lens() const { return View(kv_lens_); }      // [num_seqs]
  // Likewise [num_seqs, max_pages]; 0 where no page is needed.
  TensorView page_table(int group = 0) const {
    return View(groups_[group].page_table).Reshape({num_seqs(), max_pages_});
  }
  int num_groups() const { return static_cast<int>(groups_.size()); }

 private:
  static TensorView View(const std::vector<int32_t>& values) {
    return TensorView::Of(std::span<const int32_t>(values));
  }
  void AppendSequence(const ScheduledChunk& chunk, int page_size);
  void FillPageTables(const Schedule& schedule);

  struct Group {
    std::vector<int32_t> slots, page_table;
  };

  std::vector<int32_t> token_ids_, positions_, q_offsets_, kv_lens_;
  std::vector<Group> groups_;
  int max_pages_ = 0;
};

}  // namespace mea
