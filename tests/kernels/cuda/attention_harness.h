#pragma once

#include <vector>

#include "kernels/cuda/attention/attention.h"
#include "tests/kernels/attention_case.h"

namespace mea::cuda {

struct RunOptions {
  DecodeKernel kernel = DecodeKernel::kAuto;
  PrefillKernel prefill_kernel = PrefillKernel::kAuto;
  WeightRounding rounding = WeightRounding::kBf16;
  int sm_version = 90;
  int num_sms = 3;
  bool is_batch_invariant = true;
  int num_padded = 0;     // sequences of one row and no tokens behind the others
  int max_seqs = 0;       // of the plan; 0: as many as there are
  int last_queries = 0;   // of the only sequence; 0: all its query rows
  int64_t q_padding = 0;  // elements between the rows of q
  // The launches become a graph, with other lengths known to the host, and then replayed.
  bool is_recorded = false;
};

// The contents of an AttentionCase in BF16 (its dtype is not looked at): what lies in the cache is
// the same for the reference and for CUDA. Free pages, free slots and outputs hold NaN.
class CudaAttentionData {
 public:
  explicit CudaAttentionData(const AttentionCase& c);

  // Of the reference back end: [rows, q_heads, head_dim] F64.
  Tensor Expected() const { return Reference(keys_, values_, key_norms_, mix()); }
  // The same where the virtual heads are composed first and rounded to BF16.
  Tensor ExpectedOfExpanded() const;
  // Of the kernels: [rows + num_padded, q_heads, head_dim] BF16.
  Tensor Run(const RunOptions& options) const;

  const AttentionCase& spec() const { return case_; }
  int num_rows() const { return num_rows_; }
  HeadMix mix() const { return {.key = key_mix_.view(), .value = value_mix_.view()}; }

 private:
  Tensor Reference(const Tensor& keys, const Tensor& values, const Tensor& key_norms,
                   const HeadMix& mix) const;
  // sum_c mix[c, g] heads_c(t), times norms[g](t) where there are any, rounded to BF16.
  Tensor Expand(const Tensor& heads, const Tensor& mix, const Tensor& norms) const;
  // The slabs of `vectors` in the order of SlabLayout.
  std::vector<Bf16> DeviceSlabs(const Tensor& vectors, int heads) const;

  AttentionCase case_;
  int num_rows_ = 0;
  int num_pages_ = 0;
  int max_pages_ = 0;
  Tensor q_;              // [rows, q_heads, head_dim] F64, as all below
  Tensor keys_, values_;  // [num_pages, heads, page_size, head_dim], tokens in order
  Tensor key_norms_;      // [num_pages, kv_heads, page_size] F32 or absent
  Tensor key_mix_, value_mix_, head_norm_gain_;  // F32
  std::vector<int32_t> page_table_;              // [num_seqs, max_pages]
};

// The largest relative error of a (row, head) vector beyond the rounding of its elements to BF16;
// infinite where one is not finite.
double WorstHeadError(TensorView actual, TensorView expected);

// Bounds of it. Float32 sums, and exponentials that err by 2^-22 of a score that may be 20.
inline constexpr double kFloatWeights = 1e-5;
// Softmax weights rounded to BF16, where components may cancel.
inline constexpr double kBf16Weights = 4e-3;

// Whether the reference rounds composed heads to BF16, as the kernels of long chunks do.
enum class Heads { kCached, kExpanded };

// That the kernels are as near the reference, and that padded rows are zeros.
void ExpectAgreement(const AttentionCase& c, const RunOptions& options, double tolerance,
                     Heads heads = Heads::kCached);

// A decode row, a speculated handful, a prefill chunk and a whole short prompt, in one batch.
inline const std::vector<AttentionCase::Sequence> kMixedBatch = {
    {.kv_len = 150, .q_len = 1}, {.kv_len = 33, .q_len = 3}, {.kv_len = 100, .q_len = 21},
    {.kv_len = 7, .q_len = 7},   {.kv_len = 1, .q_len = 1},  {.kv_len = 270, .q_len = 2}};

}  // namespace mea::cuda
