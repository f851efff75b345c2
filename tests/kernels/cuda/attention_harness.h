#pragma once

#include <vector>

#include "kernels/cuda/attention/attention.h"
#include "tests/kernels/attention_case.h"

namespace mea::cuda {

struct RunOptions {
  DecodeKernel kernel = DecodeKernel::kAuto;
  WeightRounding rounding = WeightRounding::kBf16;
  int sm_version = 90;
  int num_sms = 3;
  int num_padded = 0;  // sequences of one row and no tokens behind the others
  int max_seqs = 0;    // of the plan; 0: as many as there are
};

// The contents of an AttentionCase in BF16 (its dtype is not looked at): what lies in the cache is
// the same for the reference and for CUDA. Free pages, free slots and outputs hold NaN.
class CudaAttentionData {
 public:
  explicit CudaAttentionData(const AttentionCase& c);

  // Of the reference back end: [rows, q_heads, head_dim] F64.
  Tensor Expected() const;
  // Of the kernels: [rows + num_padded, q_heads, head_dim] BF16.
  Tensor Run(const RunOptions& options) const;

  const AttentionCase& spec() const { return case_; }
  int num_rows() const { return num_rows_; }
  TensorView key_mix() const { return key_mix_.view(); }
  TensorView value_mix() const { return value_mix_.view(); }

 private:
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

}  // namespace mea::cuda
