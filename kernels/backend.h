#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "kernels/backend_limits.h"
#include "kernels/paged_kv.h"
#include "kernels/sample.h"
#include "kernels/tensor.h"

namespace mea {

// Rotary embedding in the half-split convention of Hugging Face: element i turns with element i +
// d/2.
struct RopeArgs {
  TensorView positions;           // [num_tokens] i32
  TensorView inv_freq;            // [head_dim / 2] f64
  double attention_factor = 1.0;  // yarn's scale of cos and sin
  // P: each token stands for P neighbouring ones, its row n * P + p for position P * positions[n] +
  // p
  int pseudo_heads = 1;
  // [num_tokens * P, head_dim] wide dtype: cos in the first half, sin in the second
  TensorView out;
};

// QK-norm (where gain is present) and rotation of the queries, in place.
struct PrepareQueriesArgs {
  TensorView q;     // [num_tokens, q_heads, head_dim]
  TensorView gain;  // [head_dim] f32, or absent
  float eps = 1e-6f;
  TensorView cos_sin;  // [num_tokens, head_dim]
};

// Everything between the K/V projections and the cache. With g = gain, y_c the component key c and
// rms(x) = sqrt(mean(x^2) + eps), what is stored is
//   without a gain:                RoPE(y_c)
//   with key_norm_heads == 0:      RoPE(g * y_c / rms(y_c)), plain QK-norm
//   with key_norm_heads == h:      RoPE(g * y_c), and r_j = 1 / rms(sum_c W[c,j] y_c)
// The last is QK-norm of the composite keys, exactly: engine/README.md, "The mathematics".
// Values are stored as they come.
struct AppendKvArgs {
  TensorView k;        // [num_tokens, key_heads, head_dim]
  TensorView v;        // [num_tokens, value_heads, head_dim]
  TensorView slots;    // [num_tokens] i32: page * page_size + offset; negative: nothing is stored
  TensorView cos_sin;  // [num_tokens, head_dim]
  TensorView gain;     // [head_dim] f32, or absent
  float eps = 1e-6f;
  TensorView key_mix;  // [key_heads, kv_heads] f32; needed where key_norm_heads > 0
  PagedKvView kv;
};

// What all keys of a virtual head have in common and the cache leaves out: a vector b_g, rotated at
// token t as the token's key is. Angles add up, so those of all positions are given by few.
struct KeyBias {
  static constexpr int kStride = 64;

  TensorView heads;  // [kv_heads, head_dim] f32, b_g; absent: there is none, nor the others
  TensorView
      strides;  // [n, head_dim] wide: cos and sin of the positions 0, kStride, 2 kStride, ...
  TensorView offsets;  // [head_dim, kStride] wide: of those before kStride, with yarn's scale

  bool empty() const { return heads.empty(); }
};

// Causal attention of every query row over its sequence's cached tokens, its own included. With
// G(i) the virtual KV head of query head i:
//   S[i,t] = scale * r[t,G(i)] * sum_c W_K[c,G(i)] (q_i . K_c(t)) + scale * q_i . RoPE_t(b_G(i))
//   o_i    = sum_t softmax(S[i,:])[t] * sum_c W_V[c,G(i)] V_c(t)
// and, where head_norm_gain is present, o_i <- head_norm_gain[i] * o_i / rms(o_i).
// A row's result depends on nothing but its own sequence: not on the batch, the chunking or the
// page size.
struct PagedAttentionArgs {
  TensorView q;          // [num_tokens, q_heads, head_dim], prepared
  TensorView q_offsets;  // [num_seqs + 1] i32, prefix sums of query counts
  // [num_seqs] i32, cached tokens of each sequence, the new ones included; 0: the row fills the
  // batch up and comes out as zeros (only back ends with PaddedRows meet it)
  TensorView kv_lens;
  TensorView page_table;  // [num_seqs, max_pages] i32
  // q_offsets and kv_lens again, where the host can read them: a device sizes its launches by them.
  // In a batch of single rows nothing but the number of rows may count, see Backend::Run.
  std::span<const int32_t> host_q_offsets;
  std::span<const int32_t> host_kv_lens;
  PagedKvView kv;
  HeadMix mix;
  KeyBias key_bias;    // on the host alone, where there are no key norms
  int kv_heads = 0;    // virtual heads h; q_heads is a multiple of it
  int window = 0;      // token t is visible to position p when p - t < window; 0 = no window
  double scale = 1.0;  // double: 1 / sqrt(head_dim) in float alone would cost the reference 3e-8
  TensorView head_norm_gain;  // [q_heads, head_dim] f32, or absent
  float head_norm_eps = 1e-5f;
  TensorView out;  // [num_tokens, q_heads, head_dim]
};

// Attention of interleaved pseudo heads (IHA, arXiv 2602.21371) from a cache of physical heads.
// Each of h heads has P pseudo heads; pseudo head p of token n stands at virtual position n * P +
// p, sees the positions up to its own and, where there is a window of W tokens, no more than the
// last W * P. With a_K, a_V the mixing tensors of keys and values and K_m(t), V_m(t) what is cached
// of token t, whose key is rotated by t * P:
//   S[jp, tr] = scale * sum_m a_K[m,j,r] <turn(q_jp, -r), K_m(t)>
//   o_jp      = sum_tr softmax(S[jp,:])[tr] * sum_m a_V[m,j,r] V_m(t)
// Turning the query back by r positions is turning the key of pseudo head r forward: no pseudo head
// is ever stored.
struct InterleavedAttentionArgs {
  // As of PagedAttention, but: q and out are [num_tokens, P * h, head_dim], pseudo head p of head j
  // at p * h + j, queries rotated by n * P + p; mix.key and mix.value are a_K and a_V as [h, h *
  // P], column j * P + r; kv_heads is h = kv.spec.key_heads = kv.spec.value_heads; there are
  // neither key norms nor a head norm.
  PagedAttentionArgs paged;
  int pseudo_heads = 1;  // P
  TensorView turns;      // [P, head_dim] wide dtype: cos and sin of r positions, r = 0..P-1
};

// A device's own memory.
struct DeviceMemory {
  int64_t total_bytes = 0;
  int64_t free_bytes = 0;
};

// One of the matrices that MatMul applies to the same rows.
struct Projection {
  TensorView w;     // [out, in]
  TensorView bias;  // [out] f32, or absent
  TensorView out;   // [num_tokens, out] compute or wide dtype; may be columns of a wider buffer
};

// One expert: a SwiGLU network of its own.
struct Expert {
  TensorView gate;  // [ffn, hidden]
  TensorView up;    // [ffn, hidden]
  TensorView down;  // [hidden, ffn]
};

// A mixture of experts in place of a feed-forward network. With l = x router^T and P = softmax(l)
// over all experts, a row goes to the top_k experts of the largest l; of equal ones the first
// counts more, and NaN counts least. Over these, in the order of their indices,
//   out = sum_e g_e down_e (silu(gate_e x) * up_e x)
// with g_e = P_e, divided by their sum where they are renormalised. A row's result, and which
// experts it goes to, depends on that row alone, bit for bit.
struct MoeArgs {
  TensorView x;                     // [num_tokens, hidden]
  TensorView router;                // [num_experts, hidden]
  std::span<const Expert> experts;  // on a device each as far from the one before as the next
  int top_k = 0;                    // 1..num_experts
  bool renormalise = true;
  // The caller's working memory; what the op leaves in it means nothing.
  TensorView inner;  // [num_tokens * top_k, ffn]
  TensorView rows;   // [num_tokens * top_k, hidden]
  TensorView out;    // [num_tokens, hidden]
};

// The ops of a forward pass on one device. Activations are in compute_dtype(), what accumulates
// over layers (the residual) or is read as numbers (logits, cosines and sines) in wide_dtype();
// weight matrices in F32, BF16 or F16; gains, biases and mixes in F32; ids and positions in I32.
// Tensors are the caller's, on the back end's device unless said otherwise; an output never aliases
// an input unless said so. Ops may run asynchronously until Synchronize(). Not thread-safe: one
// thread drives a back end (which may use many of its own). kernels/reference defines every op; the
// others prove themselves against it.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string_view name() const = 0;  // "cpu", "reference", "cuda"
  virtual Device device() const { return Device::kCpu; }
  virtual DType compute_dtype() const = 0;
  virtual DType wide_dtype() const { return compute_dtype(); }
  // What weight matrices must be stored in; absent where any storage format will do.
  virtual std::optional<DType> weight_dtype() const { return std::nullopt; }

  // Absent on the host, whose memory is everybody's.
  virtual std::optional<DeviceMemory> memory() const { return std::nullopt; }
  // Allocates all memory that the ops need beside their operands; a step allocates nothing then.
  // Before the first op, and anew where limits grow. INVALID_ARGUMENT for a model that this back
  // end cannot run, RESOURCE_EXHAUSTED when there is not enough memory.
  virtual absl::Status Prepare(const BackendLimits& /*limits*/) { return absl::OkStatus(); }
  // What a model within these limits takes; statuses as of Prepare.
  virtual absl::StatusOr<BackendBytes> PlannedBytes(const BackendLimits& /*limits*/) const {
    return BackendBytes{};
  }
  virtual BackendCounters counters() const { return {}; }

  // Zero-filled device memory.
  virtual absl::StatusOr<Tensor> Allocate(std::span<const int64_t> shape, DType dtype) = 0;
  // Host memory that the device copies from and to at its full rate.
  virtual absl::StatusOr<Tensor> AllocateHost(std::span<const int64_t> shape, DType dtype) {
    return Tensor::AllocateHost(shape, dtype);
  }
  // Copies between host and device, of one shape and dtype, rows apart by any stride. The host side
  // stays untouched until Synchronize().
  virtual void Upload(TensorView host, TensorView device);
  virtual void Download(TensorView device, TensorView host);
  // Copies within the device, likewise; ordered with the ops, but no part of a forward pass. Forks
  // pages of the cache; its rate is the ceiling that others are measured by.
  virtual void Copy(TensorView from, TensorView to);

  // Runs `ops`, which calls ops of this back end and nothing else. A device may record them under
  // `key` and repeat the record at the next call with the same key, without calling `ops`: the
  // caller promises that they would have the same arguments (contents of tensors apart). A negative
  // key promises nothing. Keys belong to whoever runs: one forward pass per back end.
  virtual void Run(int64_t /*key*/, absl::FunctionRef<void()> ops) { ops(); }
  // To how many rows a decode step of `num_rows` is filled up, so that few records serve all sizes.
  virtual int PaddedRows(int num_rows) const { return num_rows; }

  // out[i] = table[ids[i]]. On a device an id of -1 - j stands for the token that row j of the last
  // Sample drew, so that a step can be launched before the host knows the tokens of the one before.
  virtual void Embed(TensorView table,  // [vocab, hidden]
                     TensorView ids,    // [num_tokens]
                     TensorView out     // [num_tokens, hidden] wide
                     ) = 0;
  // out = gain * x / sqrt(mean(x^2) + eps) over the last dimension.
  virtual void RmsNorm(TensorView x,     // [num_tokens, hidden] wide
                       TensorView gain,  // [hidden]
                       float eps,
                       TensorView out  // [num_tokens, hidden]
                       ) = 0;
  // residual += delta; out = RmsNorm(residual).
  virtual void AddRmsNorm(TensorView delta,     // [num_tokens, hidden]
                          TensorView residual,  // [num_tokens, hidden] wide
                          TensorView gain, float eps,
                          TensorView out  // [num_tokens, hidden]
                          ) = 0;
  // out = x w^T + bias for every projection. A device does those in one product whose weights, and
  // outputs, lie side by side in memory.
  virtual void MatMul(TensorView x,  // [num_tokens, in]
                      std::span<const Projection> projections) = 0;
  void MatMul(TensorView x, TensorView w, TensorView bias, TensorView out) {
    const Projection projection{.w = w, .bias = bias, .out = out};
    MatMul(x, std::span(&projection, 1));
  }
  // out = silu(gate) * up; out may be gate.
  virtual void SwiGlu(TensorView gate, TensorView up, TensorView out) = 0;
  virtual void Moe(const MoeArgs& args) = 0;
  // out = scale * sigmoid(gate) * up; out may be gate.
  virtual void SigmoidGate(TensorView gate, TensorView up, float scale, TensorView out) = 0;
  // out[n, g] = sum_c mix[c, g] * x[n, c]: new heads of each token from its own.
  virtual void MixHeads(TensorView x,    // [num_tokens, in_heads, head_dim]
                        TensorView mix,  // [in_heads, out_heads] f32
                        TensorView out   // [num_tokens, out_heads, head_dim]
                        ) = 0;
  // out[i] = x[rows[i]]
  virtual void GatherRows(TensorView x, TensorView rows, TensorView out) = 0;

  virtual void ComputeRope(const RopeArgs& args) = 0;
  virtual void PrepareQueries(const PrepareQueriesArgs& args) = 0;
  virtual void AppendKv(const AppendKvArgs& args) = 0;
  // Both, for the same tokens: neither needs what the other does, so a device does them at once.
  virtual void PrepareAndAppend(const PrepareQueriesArgs& queries, const AppendKvArgs& kv) {
    PrepareQueries(queries);
    AppendKv(kv);
  }
  virtual void PagedAttention(const PagedAttentionArgs& args) = 0;
  virtual void InterleavedAttention(const InterleavedAttentionArgs& args) = 0;

  // Draws tokens[i] from row i of the logits as kernels/sample.h says. All but the logits is host
  // memory, left alone until Synchronize(); only then is `tokens` there.
  virtual void Sample(TensorView logits,  // [rows.size(), vocab] wide
                      std::span<const SampleRow> rows, std::span<const LogitEdit> edits,
                      std::span<const uint32_t> masks,  // [n, MaskWords(vocab)]
                      std::span<SampledToken> tokens) = 0;
  // logprobs[i] = log softmax(logits[i])[targets[i]]. Host memory as for Sample.
  virtual void TokenLogprobs(TensorView logits,  // [targets.size(), vocab] wide
                             std::span<const int32_t> targets, std::span<float> logprobs) = 0;

  // A point behind all ops so far, for Await. Host memory that ops before it read or write is the
  // device's until then; at most two marks are not yet waited for.
  virtual int64_t Mark() { return 0; }
  // Waits for the ops before a mark; statuses as of Synchronize.
  [[nodiscard]] virtual absl::Status Await(int64_t /*mark*/) { return Synchronize(); }
  // Waits for every op. INTERNAL once the device has failed: nothing computed since can be trusted,
  // and the back end is of no more use.
  [[nodiscard]] virtual absl::Status Synchronize() { return absl::OkStatus(); }
};

struct CpuOptions {
  int num_threads = 0;  // 0 = one per core
};

// Plain loops in double precision: the definition of every op, and the oracle of the tests.
std::unique_ptr<Backend> CreateReferenceBackend();
// Highway kernels in float32. MEA_CPU_TARGET (for example "AVX2") forces an instruction set;
// INVALID_ARGUMENT when this machine or build lacks it.
absl::StatusOr<std::unique_ptr<Backend>> CreateCpuBackend(const CpuOptions& options = {});

}  // namespace mea
