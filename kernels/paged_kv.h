#pragma once

#include "kernels/tensor.h"

namespace mea {

// What one token leaves in the cache in one layer. The only source of byte counts; may differ by
// layer. Component heads are stored; attention sees virtual heads, which never are.
struct KvSpec {
  int key_heads = 0;    // h'_K
  int value_heads = 0;  // h'_V; may differ from h'_K
  int head_dim = 0;     // d
  DType dtype = DType::kBf16;
  int key_norm_heads =
      0;  // h with both QK-norm and HLC: one f32 1/rms per (token, virtual head); else 0

  // Of the scalars above: f32 for keys of every served format.
  constexpr DType key_norm_dtype() const {
    return dtype == DType::kF64 ? DType::kF64 : DType::kF32;
  }

  bool operator==(const KvSpec&) const = default;
};

// Bytes of one head's key, or value: d elements; in 8 bits also a BF16 scale.
constexpr int64_t KvHeadBytes(int head_dim, DType dtype) {
  return int64_t{head_dim} * DTypeSize(dtype) + (dtype == DType::kI8 ? 2 : 0);
}
// Bytes that one token leaves in one layer: h'_K + h'_V heads, and the key-norm scalars if any.
constexpr int64_t KvBytesPerToken(const KvSpec& spec) {
  return (spec.key_heads + spec.value_heads) * KvHeadBytes(spec.head_dim, spec.dtype) +
         int64_t{spec.key_norm_heads} * DTypeSize(spec.key_norm_dtype());
}

// The storage of one layer. Every (page, head) slab is one contiguous run of page_size * head_dim
// elements, in 8 bits followed by the page_size BF16 scales of its tokens; the back end decides the
// order of elements inside a slab; only it writes and reads them.
struct PagedKvView {
  KvSpec spec;
  int page_size = 0;  // tokens per page
  // In 8 bits a head's stride spans the scales.
  TensorView keys;       // [num_pages, key_heads, page_size, head_dim]
  TensorView values;     // [num_pages, value_heads, page_size, head_dim]
  TensorView key_norms;  // [num_pages, key_norm_heads, page_size]; absent where key_norm_heads is 0
};

// Head-level linear composition (MEA, arXiv 2601.19611): virtual head g = sum_c W_lc[c, g] *
// component c. Absent views mean that component heads are the virtual heads (MHA, GQA).
struct HeadMix {
  TensorView key;    // [key_heads, kv_heads] f32, W_lc^K
  TensorView value;  // [value_heads, kv_heads] f32, W_lc^V
};

}  // namespace mea
