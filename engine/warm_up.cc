#include "engine/warm_up.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "engine/batch.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

// The first run of a size looks for algorithms, the second makes a graph.
constexpr int kRuns = 2;

// The lengths of prompts that fill a whole batch.
std::vector<int> WholeBatch(const ModelLimits& limits, int context) {
  std::vector<int> lengths;
  for (int left = limits.max_batch_tokens; left > 0 && std::ssize(lengths) < limits.max_num_seqs;
       left -= lengths.back()) {
    lengths.push_back(std::min(left, context));
  }
  return lengths;
}

absl::Status RunBlank(Model& model, const KvCache& kv, std::span<const int> lengths) {
  Batch batch;
  batch.BuildBlank(lengths, kv.layout().num_groups(), kv.layout().page_size);
  model.Forward(batch, kv);
  std::vector<int32_t> rows(std::min<size_t>(lengths.size(), model.limits().max_logit_rows));
  std::iota(rows.begin(), rows.end(), 0);
  model.Logits(rows);
  model.ProbeRows();
  return model.Synchronize();
}

}  // namespace

absl::Status WarmUp(Model& model, const KvCache& kv, const LoadProgress& progress) {
  const Backend& backend = model.backend();
  if (!backend.learns_from_first_steps()) return absl::OkStatus();
  if (progress) progress("first steps of every size", 0, 0);
  const ModelLimits& limits = model.limits();
  for (int rows = 1; rows <= limits.max_num_seqs; ++rows) {
    rows = backend.PaddedRows(rows);
    const std::vector<int> single_rows(rows, 1);
    for (int run = 0; run < kRuns; ++run) MEA_RETURN_IF_ERROR(RunBlank(model, kv, single_rows));
  }
  return RunBlank(model, kv, WholeBatch(limits, model.config().max_position));
}

}  // namespace mea
