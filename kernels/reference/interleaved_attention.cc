#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/reference/attention.h"
#include "kernels/reference/elements.h"
#include "kernels/reference/kv_slabs.h"

namespace mea::reference {
namespace {

// One pseudo query: head j, pseudo head p, of the token at position n.
class PseudoQuery {
 public:
  PseudoQuery(const InterleavedAttentionArgs& args, int64_t seq, int64_t token, int64_t j,
              int64_t p)
      : args_(args), paged_(args.paged), seq_(seq), token_(token), j_(j), p_(p) {
    const int32_t* q_offsets = paged_.q_offsets.as<int32_t>();
    n_ = paged_.kv_lens.as<int32_t>()[seq] - (q_offsets[seq + 1] - token);
  }

  void Run() {
    const int64_t head = p_ * paged_.kv_heads + j_;
    const int64_t head_dim = paged_.kv.spec.head_dim;
    FindVisible();
    Score(LoadRow(paged_.q, Offset(paged_.q, token_, head), head_dim));
    std::vector<double> out(head_dim, 0.0);
    for (const PseudoKey& key : keys_) AddValue(key, out);
    RotateFor(paged_.kv.spec.dtype.values, out);
    for (int64_t i = 0; i < head_dim; ++i) {
      Store(paged_.out, Offset(paged_.out, token_, head, i), out[i]);
    }
  }

 private:
  // Pseudo head r of token t, at virtual position t * P + r.
  struct PseudoKey {
    int64_t t;
    int64_t r;
    double weight = 0;
  };

  void FindVisible() {
    const int64_t pseudo_heads = args_.pseudo_heads;
    const int64_t own = n_ * pseudo_heads + p_;
    const int64_t window = paged_.window * pseudo_heads;
    for (int64_t position = 0; position <= own; ++position) {
      if (window > 0 && own - position >= window) continue;
      keys_.push_back({.t = position / pseudo_heads, .r = position % pseudo_heads});
    }
  }

  // softmax of scale * sum_m a_K[m,j,r] <rotate(q, -r), K_m(t)>
  void Score(const std::vector<double>& q) {
    std::vector<std::vector<double>> rotated;
    for (int64_t r = 0; r < args_.pseudo_heads; ++r) rotated.push_back(RotatedBack(q, r));
    double max = -std::numeric_limits<double>::infinity();
    for (PseudoKey& key : keys_) {
      double score = 0;
      for (int64_t m = 0; m < paged_.kv_heads; ++m) {
        const auto component = LoadHead(paged_.kv.keys, SlotOf(key.t), m);
        double dot = 0;
        for (size_t i = 0; i < q.size(); ++i) dot += rotated[key.r][i] * component[i];
        score += Mix(paged_.mix.key, m, key.r) * dot;
      }
      key.weight = score * paged_.scale;
      max = std::max(max, key.weight);
    }
    double sum = 0;
    for (PseudoKey& key : keys_) sum += key.weight = std::exp(key.weight - max);
    for (PseudoKey& key : keys_) key.weight /= sum;
  }

  void AddValue(const PseudoKey& key, std::vector<double>& out) const {
    for (int64_t m = 0; m < paged_.kv_heads; ++m) {
      const double weight = key.weight * Mix(paged_.mix.value, m, key.r);
      const auto component = LoadHead(paged_.kv.values, SlotOf(key.t), m);
      for (size_t i = 0; i < out.size(); ++i) out[i] += weight * component[i];
    }
  }

  std::vector<double> RotatedBack(const std::vector<double>& q, int64_t r) const {
    const int64_t half = static_cast<int64_t>(q.size()) / 2;
    const double* cosine = args_.rotations.row<double>(r);
    const double* sine = cosine + half;
    std::vector<double> rotated(q.size());
    for (int64_t i = 0; i < half; ++i) {
      rotated[i] = q[i] * cosine[i] + q[i + half] * sine[i];
      rotated[i + half] = q[i + half] * cosine[i] - q[i] * sine[i];
    }
    RotateFor(paged_.kv.spec.dtype.keys, rotated);
    return rotated;
  }

  double Mix(const TensorView& mix, int64_t m, int64_t r) const {
    return Load(mix, Offset(mix, m, j_ * args_.pseudo_heads + r));
  }

  KvSlot SlotOf(int64_t t) const {
    const int64_t page_size = paged_.kv.page_size;
    return {.page = paged_.page_table.row<int32_t>(seq_)[t / page_size], .offset = t % page_size};
  }

  const InterleavedAttentionArgs& args_;
  const PagedAttentionArgs& paged_;
  const int64_t seq_;
  const int64_t token_;
  const int64_t j_;
  const int64_t p_;
  int64_t n_;
  std::vector<PseudoKey> keys_;  // visible, their weights summing to 1
};

}  // namespace

void InterleavedAttention(const InterleavedAttentionArgs& args) {
  const int32_t* q_offsets = args.paged.q_offsets.as<int32_t>();
  for (int64_t seq = 0; seq < args.paged.kv_lens.shape[0]; ++seq) {
    for (int64_t token = q_offsets[seq]; token < q_offsets[seq + 1]; ++token) {
      for (int64_t j = 0; j < args.paged.kv_heads; ++j) {
        for (int64_t p = 0; p < args.pseudo_heads; ++p) PseudoQuery(args, seq, token, j, p).Run();
      }
    }
  }
}

}  // namespace mea::reference
