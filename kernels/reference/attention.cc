#include "kernels/reference/attention.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <vector>

#include "kernels/reference/elements.h"
#include "kernels/reference/kv_slabs.h"

namespace mea::reference {
namespace {

double InverseRms(const std::vector<double>& x, double eps) {
  double sum = 0;
  for (const double value : x) sum += value * value;
  return 1.0 / std::sqrt(sum / static_cast<double>(x.size()) + eps);
}

// RoPE of one head by the angles of row `token` of cos_sin: element i rotates with element i + d/2.
void Rotate(const TensorView& cos_sin, int64_t token, std::vector<double>& x) {
  const int64_t half = static_cast<int64_t>(x.size()) / 2;
  const double* cosine = cos_sin.row<double>(token);
  const double* sine = cosine + half;
  for (int64_t i = 0; i < half; ++i) {
    const double first = x[i];
    const double second = x[i + half];
    x[i] = first * cosine[i] - second * sine[i];
    x[i + half] = second * cosine[i] + first * sine[i];
  }
}

void MultiplyByGain(const TensorView& gain, std::vector<double>& x) {
  for (size_t i = 0; i < x.size(); ++i) x[i] *= Load(gain, i);
}

// r_j = 1 / rms(sum_c W[c,j] y_c) of one token and every virtual head j.
void StoreKeyNorms(const AppendKvArgs& args, int64_t token, KvSlot slot) {
  const KvSpec& spec = args.kv.spec;
  for (int j = 0; j < spec.key_norm_heads; ++j) {
    std::vector<double> mixed(spec.head_dim, 0.0);
    for (int c = 0; c < spec.key_heads; ++c) {
      const double weight = Load(args.key_mix, Offset(args.key_mix, c, j));
      for (int i = 0; i < spec.head_dim; ++i) {
        mixed[i] += weight * Load(args.k, Offset(args.k, token, c, i));
      }
    }
    Store(args.kv.key_norms, Offset(args.kv.key_norms, slot.page, j, slot.offset),
          InverseRms(mixed, args.eps));
  }
}

// The attention of one query row of one head: the softmax weights over its visible tokens.
class Row {
 public:
  Row(const PagedAttentionArgs& args, int64_t seq, int64_t token, int64_t head)
      : args_(args), seq_(seq), token_(token), head_(head) {
    const int32_t* q_offsets = args.q_offsets.as<int32_t>();
    const int64_t position = args.kv_lens.as<int32_t>()[seq] - (q_offsets[seq + 1] - token);
    virtual_head_ = head / (args.q.shape[1] / args.kv_heads);
    // A sequence without tokens is padding of the batch: its rows see nothing and become zeros.
    end_ = std::max<int64_t>(0, position + 1);
    begin_ = args.window > 0 ? std::max<int64_t>(0, end_ - args.window) : 0;
  }

  void Run() {
    ComputeWeights();
    std::vector<double> out = WeightedValues();
    const int64_t head_dim = args_.kv.spec.head_dim;
    if (!args_.head_norm_gain.empty()) {
      const double inverse_rms = InverseRms(out, args_.head_norm_eps);
      const int64_t gain = Offset(args_.head_norm_gain, head_);
      for (int64_t i = 0; i < head_dim; ++i) {
        out[i] *= inverse_rms * Load(args_.head_norm_gain, gain + i);
      }
    }
    for (int64_t i = 0; i < head_dim; ++i) {
      Store(args_.out, Offset(args_.out, token_, head_, i), out[i]);
    }
  }

 private:
  KvSlot SlotOf(int64_t t) const {
    const int64_t page_size = args_.kv.page_size;
    const int32_t page = args_.page_table.row<int32_t>(seq_)[t / page_size];
    return {.page = page, .offset = t % page_size};
  }

  // W[c, g] of this row's virtual head g; without a mix component g alone counts.
  double MixWeight(const TensorView& mix, int64_t component) const {
    if (mix.empty()) return component == virtual_head_ ? 1.0 : 0.0;
    return Load(mix, Offset(mix, component, virtual_head_));
  }

  // S[t] = scale * r[t,g] * sum_c W_K[c,g] (q . K_c(t)), then softmax.
  void ComputeWeights() {
    const PagedKvView& kv = args_.kv;
    const int64_t head_dim = kv.spec.head_dim;
    const auto q = LoadRow(args_.q, Offset(args_.q, token_, head_), head_dim);
    auto key_q = q;
    RotateFor(kv.spec.dtype.keys, key_q);
    weights_.assign(end_ - begin_, 0.0);
    double max = -std::numeric_limits<double>::infinity();
    for (int64_t t = begin_; t < end_; ++t) {
      const KvSlot slot = SlotOf(t);
      double score = 0;
      for (int c = 0; c < kv.spec.key_heads; ++c) {
        const double weight = MixWeight(args_.mix.key, c);
        if (args_.mix.key.empty() && weight == 0) continue;
        double dot = 0;
        const auto key = LoadHead(kv.keys, slot, c);
        for (int64_t i = 0; i < head_dim; ++i) dot += key_q[i] * key[i];
        score += weight * dot;
      }
      if (!args_.key_bias.empty()) score += BiasScore(q, t);
      if (kv.spec.key_norm_heads > 0) {
        score *= Load(kv.key_norms, Offset(kv.key_norms, slot.page, virtual_head_, slot.offset));
      }
      score *= args_.scale;
      weights_[t - begin_] = score;
      max = std::max(max, score);
    }
    double sum = 0;
    for (double& weight : weights_) sum += weight = std::exp(weight - max);
    for (double& weight : weights_) weight /= sum;
  }

  // q . RoPE_t(b_g)
  double BiasScore(const std::vector<double>& q, int64_t t) const {
    const auto& [heads, strides, offsets] = args_.key_bias;
    const int64_t d = args_.kv.spec.head_dim;
    const int64_t stride = t / KeyBias::kStride;
    const int64_t offset = t % KeyBias::kStride;
    double score = 0;
    for (int64_t i = 0; i < d / 2; ++i) {
      const std::complex<double> query(q[i], q[i + d / 2]);
      const std::complex<double> bias(Load(heads, Offset(heads, virtual_head_, i)),
                                      Load(heads, Offset(heads, virtual_head_, i + d / 2)));
      const std::complex<double> far(strides.row<double>(stride)[i],
                                     strides.row<double>(stride)[i + d / 2]);
      const std::complex<double> near(offsets.row<double>(i)[offset],
                                      offsets.row<double>(i + d / 2)[offset]);
      score += (std::conj(query) * bias * far * near).real();
    }
    return score;
  }

  // o = sum_t weight[t] * sum_c W_V[c,g] V_c(t)
  std::vector<double> WeightedValues() const {
    const PagedKvView& kv = args_.kv;
    std::vector<double> out(kv.spec.head_dim, 0.0);
    for (int64_t t = begin_; t < end_; ++t) {
      const KvSlot slot = SlotOf(t);
      for (int c = 0; c < kv.spec.value_heads; ++c) {
        const double weight = MixWeight(args_.mix.value, c) * weights_[t - begin_];
        if (args_.mix.value.empty() && c != virtual_head_) continue;
        const auto value = LoadHead(kv.values, slot, c);
        for (size_t i = 0; i < out.size(); ++i) out[i] += weight * value[i];
      }
    }
    RotateFor(kv.spec.dtype.values, out);
    return out;
  }

  const PagedAttentionArgs& args_;
  int64_t seq_;
  int64_t token_;
  int64_t head_;
  int64_t virtual_head_;
  int64_t begin_;  // visible tokens [begin_, end_)
  int64_t end_;
  std::vector<double> weights_;  // [end_ - begin_], sums to 1
};

}  // namespace

void ComputeRope(const ComputeRopeArgs& args) {
  const int64_t half = args.inv_freq.shape[0];
  const int64_t pseudo_heads = args.pseudo_heads;
  for (int64_t t = 0; t < args.positions.shape[0] * pseudo_heads; ++t) {
    double* out = args.out.row<double>(t);
    const int64_t token = args.positions.as<int32_t>()[t / pseudo_heads];
    const auto position = static_cast<double>(token * pseudo_heads + t % pseudo_heads);
    for (int64_t i = 0; i < half; ++i) {
      const double inv_freq = args.inv_freq.as<double>()[i];
      const double angle = position * inv_freq;
      out[i] = inv_freq == 0 ? 1 : std::cos(angle) * args.attention_factor;
      out[i + half] = std::sin(angle) * args.attention_factor;
    }
  }
}

void PrepareQueries(const PrepareQueriesArgs& args) {
  for (int64_t t = 0; t < args.q.shape[0]; ++t) {
    for (int64_t head = 0; head < args.q.shape[1]; ++head) {
      const int64_t offset = Offset(args.q, t, head);
      auto q = LoadRow(args.q, offset, args.q.shape[2]);
      if (!args.gain.empty()) {
        const double inverse_rms = InverseRms(q, args.eps);
        for (double& value : q) value *= inverse_rms;
        MultiplyByGain(args.gain, q);
      }
      Rotate(args.cos_sin, t, q);
      for (size_t i = 0; i < q.size(); ++i) Store(args.q, offset + i, q[i]);
    }
  }
}

void AppendKv(const AppendKvArgs& args) {
  const KvSpec& spec = args.kv.spec;
  for (int64_t t = 0; t < args.k.shape[0]; ++t) {
    const int32_t index = args.slots.as<int32_t>()[t];
    if (index < 0) continue;
    const KvSlot slot = {.page = index / args.kv.page_size, .offset = index % args.kv.page_size};
    for (int c = 0; c < spec.key_heads; ++c) {
      auto key = LoadRow(args.k, Offset(args.k, t, c), spec.head_dim);
      if (!args.gain.empty()) {
        if (spec.key_norm_heads == 0) {
          const double inverse_rms = InverseRms(key, args.eps);
          for (double& value : key) value *= inverse_rms;
        }
        MultiplyByGain(args.gain, key);
      }
      Rotate(args.cos_sin, t, key);
      StoreHead(args.kv.keys, slot, c, key);
    }
    for (int c = 0; c < spec.value_heads; ++c) {
      StoreHead(args.kv.values, slot, c, LoadRow(args.v, Offset(args.v, t, c), spec.head_dim));
    }
    StoreKeyNorms(args, t, slot);
  }
}

void PagedAttention(const PagedAttentionArgs& args) {
  const int32_t* q_offsets = args.q_offsets.as<int32_t>();
  for (int64_t seq = 0; seq < args.kv_lens.shape[0]; ++seq) {
    for (int64_t token = q_offsets[seq]; token < q_offsets[seq + 1]; ++token) {
      for (int64_t head = 0; head < args.q.shape[1]; ++head) Row(args, seq, token, head).Run();
    }
  }
}

}  // namespace mea::reference
