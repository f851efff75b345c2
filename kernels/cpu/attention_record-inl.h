// The running softmax of one row, kept in a record (attention.h): its steps, its merging, its end.
#if defined(MEA_KERNELS_CPU_ATTENTION_RECORD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEA_KERNELS_CPU_ATTENTION_RECORD_INL_H_
#undef MEA_KERNELS_CPU_ATTENTION_RECORD_INL_H_
#else
#define MEA_KERNELS_CPU_ATTENTION_RECORD_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/attention_work.h"
#include "kernels/cpu/simd-inl.h"
#include "kernels/int4_heads.h"

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {

using cpu::kBlockTokens;
using cpu::kRecordHeader;
using cpu::TokenRange;

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

HWY_INLINE float ScalarExp(float x) { return hn::GetLane(Exp(hn::Set(F32(), x))); }

HWY_INLINE void ClearRecord(float* record, int64_t record_floats) {
  std::fill(record, record + record_floats, 0.0f);
  record[0] = kMinusInfinity;
}

// values *= factor
HWY_INLINE void ScaleRecord(float* record, int64_t record_floats, float factor) {
  if (factor == 1.0f) return;
  const Vec v = hn::Set(F32(), factor);
  for (int64_t i = kRecordHeader; i < record_floats; i += kLanes) {
    hn::StoreU(hn::Mul(LoadWide(record + i), v), F32(), record + i);
  }
}

// One block: scores[kBlockTokens] become exp(score - max), zero where the row does not see, and
// the record is rescaled to the new maximum; the weighted values are still to be added. The weights
// are made for a cache of T.
template <typename T>
HWY_INLINE void SoftmaxRow(float* scores, TokenRange visible, float* record,
                           int64_t record_floats) {
  const F32 d;
  // Tokens that the row does not see may be NaN: tokens not written yet share its tile.
  std::fill(scores, scores + visible.begin, kMinusInfinity);
  std::fill(scores + visible.end, scores + kBlockTokens, kMinusInfinity);
  Vec max_vec = LoadWide(scores);
  for (int i = kLanes; i < kBlockTokens; i += kLanes) {
    max_vec = hn::Max(max_vec, LoadWide(scores + i));
  }
  const float max = std::max(record[0], Max(max_vec));
  const float factor = ScalarExp(record[0] - max);
  Vec sum = hn::Zero(d);
  for (int i = 0; i < kBlockTokens; i += kLanes) {
    const Vec weight = Exp(hn::Sub(LoadWide(scores + i), hn::Set(d, max)));
    sum = hn::Add(sum, weight);
    hn::StoreU(weight, d, scores + i);
  }
  record[0] = max;
  record[1] = record[1] * factor + Sum(sum);
  ScaleRecord(record, record_floats, factor);
}

// Rows one behind the other, at most kSoftmaxRows, each of which sees some of the block.
constexpr int kSoftmaxRows = 16;
template <typename T>
HWY_INLINE void SoftmaxOneByOne(float* scores, const TokenRange* visible, int num_rows,
                                float* records, int64_t record_floats) {
  for (int r = 0; r < num_rows; ++r) {
    SoftmaxRow<T>(scores + r * kBlockTokens, visible[r], records + r * record_floats,
                  record_floats);
  }
}
template <typename T>
HWY_INLINE void SoftmaxRows(float* scores, const TokenRange* visible, int num_rows, float* records,
                            int64_t record_floats) {
  SoftmaxOneByOne<T>(scores, visible, num_rows, records, record_floats);
}

// Adds a split's record to the running total: the one formula of both schedules.
HWY_INLINE void MergeRecord(const float* part, int64_t record_floats, float* total) {
  if (part[1] == 0.0f) return;  // nothing visible in this split
  const F32 d;
  const float max = std::max(total[0], part[0]);
  const float old_factor = ScalarExp(total[0] - max);
  const float new_factor = ScalarExp(part[0] - max);
  total[0] = max;
  total[1] = total[1] * old_factor + part[1] * new_factor;
  for (int64_t i = kRecordHeader; i < record_floats; i += kLanes) {
    const Vec scaled = hn::Mul(LoadWide(total + i), hn::Set(d, old_factor));
    hn::StoreU(hn::MulAdd(LoadWide(part + i), hn::Set(d, new_factor), scaled), d, total + i);
  }
}

// out = values / sum, and the head norm where the op has one. Values in 4 bits have rotated the
// record, which is undone in place.
inline void FinishRow(const PagedAttentionArgs& args, int64_t token, int64_t head, float* record) {
  const F32 d;
  const int64_t head_dim = args.kv.spec.head_dim;
  float* const values = record + kRecordHeader;
  if (args.kv.spec.dtype.values == DType::kI4) RotateHadamard(values, head_dim);
  float* out = args.out.row<float>(token) + head * args.out.stride[1];
  const Vec scale = hn::Set(d, 1.0f / record[1]);
  int64_t i = 0;
  Vec squares = hn::Zero(d);
  for (; i + kLanes <= head_dim; i += kLanes) {
    const Vec v = hn::Mul(LoadWide(values + i), scale);
    squares = hn::MulAdd(v, v, squares);
    hn::StoreU(v, d, out + i);
  }
  if (i < head_dim) {
    const Vec v = hn::Mul(LoadTail(values + i, head_dim - i), scale);
    squares = hn::MulAdd(v, v, squares);
    StoreTail(v, out + i, head_dim - i);
  }
  if (args.head_norm_gain.empty()) return;
  const float mean_square = Sum(squares) / static_cast<float>(head_dim);
  const float inverse_rms = 1.0f / std::sqrt(mean_square + args.head_norm_eps);
  const float* gain = args.head_norm_gain.row<float>(head);
  for (int64_t j = 0; j < head_dim; ++j) out[j] = gain[j] * (out[j] * inverse_rms);
}

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#endif
