#include "engine/model/step_inputs.h"

#include <algorithm>
#include <array>

#include "kernels/status_macros.h"

namespace mea {
namespace {

int64_t FlatElements(const ModelLimits& limits, int num_groups) {
  return (2 + num_groups) * int64_t{limits.max_batch_tokens} + 2 * int64_t{limits.max_num_seqs} + 1;
}
int64_t MaxPages(const ModelLimits& limits, int max_position) {
  return (max_position + limits.page_size - 1) / limits.page_size;
}

}  // namespace

int64_t StepInputs::PlannedBytes(const ModelLimits& limits, int max_position, int num_groups) {
  const int64_t elements = FlatElements(limits, num_groups) +
                           num_groups * limits.max_num_seqs * MaxPages(limits, max_position) +
                           limits.max_logit_rows;
  return elements * DTypeSize(DType::kI32);
}

absl::StatusOr<StepInputs> StepInputs::Create(const ModelLimits& limits, int max_position,
                                              int num_groups, Backend* backend) {
  StepInputs inputs;
  inputs.num_groups_ = num_groups;
  inputs.slots.resize(num_groups);
  inputs.page_table.resize(num_groups);
  inputs.backend_ = backend;
  inputs.limits_ = limits;
  if (backend->device() == Device::kCpu) return inputs;
  const int64_t flat = FlatElements(limits, num_groups);
  const int64_t max_pages = MaxPages(limits, max_position);
  struct Pair {
    Tensor StepInputs::*device;
    Staging StepInputs::*host;
    std::array<int64_t, 2> shape;
  };
  for (const Pair& r : {
           Pair{&StepInputs::flat_, &StepInputs::host_flat_, {1, flat}},
           Pair{&StepInputs::pages_,
                &StepInputs::host_pages_,
                {num_groups * int64_t{limits.max_num_seqs}, max_pages}},
           Pair{&StepInputs::rows_, &StepInputs::host_rows_, {1, limits.max_logit_rows}},
       }) {
    MEA_ASSIGN_OR_RETURN(inputs.*r.device, backend->Allocate(r.shape, DType::kI32));
    for (Tensor& part : (inputs.*r.host).parts) {
      MEA_ASSIGN_OR_RETURN(part, backend->AllocateHost(r.shape, DType::kI32));
    }
  }
  return inputs;
}

TensorView StepInputs::Fill(int64_t begin, TensorView host) {
  const int64_t count = host.shape[0];
  std::copy_n(host.as<int32_t>(), count, host_flat_.present().as<int32_t>() + begin);
  TensorView view = flat_.view().Columns(begin, count);
  return TensorView::Dense(view.data, DType::kI32, {count}, view.device);
}

void StepInputs::Set(const Batch& batch) {
  host_q_offsets = batch.q_offsets().values<int32_t>();
  host_kv_lens = batch.kv_lens().values<int32_t>();
  MEA_CHECK(batch.num_groups() == num_groups_);
  if (backend_->device() == Device::kCpu) {
    token_ids = batch.token_ids();
    positions = batch.positions();
    q_offsets = batch.q_offsets();
    kv_lens = batch.kv_lens();
    for (int group = 0; group < num_groups_; ++group) {
      slots[group] = batch.slots(group);
      page_table[group] = batch.page_table(group);
    }
    return;
  }
  const int64_t seqs = limits_.max_num_seqs;
  const int64_t tokens = limits_.max_batch_tokens;
  const TensorView host_flat = host_flat_.Next();
  kv_lens = Fill(0, batch.kv_lens());
  q_offsets = Fill(seqs, batch.q_offsets());
  token_ids = Fill(2 * seqs + 1, batch.token_ids());
  positions = Fill(2 * seqs + 1 + tokens, batch.positions());
  int64_t used = 2 * seqs + 1 + 2 * tokens;
  for (int group = 0; group < num_groups_; ++group) {
    const int64_t begin = 2 * seqs + 1 + (2 + group) * tokens;
    slots[group] = Fill(begin, batch.slots(group));
    used = begin + batch.num_tokens();
  }
  backend_->Upload(host_flat.Columns(0, used), flat_.view().Columns(0, used));
  SetPageTables(batch);
}

// One after the other, so that one copy moves all of them. Steps with the same number of sequences
// have them at the same place.
void StepInputs::SetPageTables(const Batch& batch) {
  const int64_t seqs = batch.num_seqs();
  const int64_t width = batch.page_table().shape[1];
  MEA_CHECK(num_groups_ * seqs <= pages_.view().shape[0] && width <= pages_.view().shape[1]);
  const TensorView host = host_pages_.Next().Rows(0, num_groups_ * seqs).Columns(0, width);
  for (int group = 0; group < num_groups_; ++group) {
    const TensorView table = batch.page_table(group);
    for (int64_t seq = 0; seq < seqs; ++seq) {
      std::copy_n(table.row<int32_t>(seq), width, host.row<int32_t>(group * seqs + seq));
    }
    // Padded rows need no pages, but a record of this step must see the whole table.
    page_table[group] = pages_.view().Rows(group * seqs, seqs);
  }
  backend_->Upload(host, pages_.view().Rows(0, num_groups_ * seqs).Columns(0, width));
}

TensorView StepInputs::SetRows(std::span<const int32_t> rows, int num_rows) {
  if (backend_->device() == Device::kCpu) {
    MEA_CHECK(num_rows == std::ssize(rows));
    return TensorView::Of(rows);
  }
  const TensorView staged = host_rows_.Next();
  int32_t* const host = staged.as<int32_t>();
  std::fill(std::copy(rows.begin(), rows.end(), host), host + num_rows, rows.front());
  backend_->Upload(staged.Columns(0, num_rows), rows_.view().Columns(0, num_rows));
  return TensorView::Dense(rows_.view().data, DType::kI32, {num_rows}, backend_->device());
}

}  // namespace mea
