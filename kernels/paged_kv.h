#pragma once

#include <string>

#include "kernels/tensor.h"

namespace mea {

// The formats of keys and of values.
struct KvDTypes {
  DType keys = DType::kBf16;
  DType values = DType::kBf16;

  constexpr KvDTypes() = default;
  constexpr KvDTypes(DType both) : keys(both), values(both) {}  // NOLINT: a format is both
  constexpr KvDTypes(DType k, DType v) : keys(k), values(v) {}

  bool operator==(const KvDTypes&) const = default;
};
// "int8", or where the two differ "k=int8,v=bf16": the spelling of flags, logs and metrics.
inline std::string KvDTypesName(KvDTypes dtypes) {
  const std::string keys(DTypeName(dtypes.keys));
  if (dtypes.keys == dtypes.values) return keys;
  return "k=" + keys + ",v=" + std::string(DTypeName(dtypes.values));
}

// What one token leaves in the cache in one layer. The only source of byte counts; may differ by
// layer. Component heads are stored; attention sees virtual heads, which never are.
struct KvSpec {
  int key_heads = 0;    // h'_K
  int value_heads = 0;  // h'_V; may differ from h'_K
  int head_dim = 0;     // d
  KvDTypes dtype;
  int key_norm_heads =
      0;  // h with both QK-norm and HLC: one f32 1/rms per (token, virtual head); else 0

  // Of the scalars above: f32 for keys of every served format.
  constexpr DType key_norm_dtype() const {
    return dtype.keys == DType::kF64 ? DType::kF64 : DType::kF32;
  }

  bool operator==(const KvSpec&) const = default;
};

// Whether keys or values of this format are integers with scales.
constexpr bool IsIntegerCache(DType dtype) { return dtype == DType::kI8 || dtype == DType::kI4; }

// Elements of storage, of DTypeSize bytes, that one head's key or value takes: in 4 bits bytes of
// two, in runs of 16.
constexpr int64_t KvHeadElements(int64_t head_dim, DType dtype) {
  return dtype == DType::kI4 ? (head_dim + 31) / 32 * 16 : head_dim;
}
// BF16 numbers beside them: in 8 bits a scale, in 4 bits a scale and a zero.
constexpr int64_t KvHeadScales(DType dtype) {
  return dtype == DType::kI8 ? 1 : dtype == DType::kI4 ? 2 : 0;
}
// Bytes of one head's key, or value.
constexpr int64_t KvHeadBytes(int64_t head_dim, DType dtype) {
  return KvHeadElements(head_dim, dtype) * DTypeSize(dtype) + 2 * KvHeadScales(dtype);
}
// Bytes that one token leaves in one layer: h'_K + h'_V heads, and the key-norm scalars if any.
constexpr int64_t KvBytesPerToken(const KvSpec& spec) {
  return spec.key_heads * KvHeadBytes(spec.head_dim, spec.dtype.keys) +
         spec.value_heads * KvHeadBytes(spec.head_dim, spec.dtype.values) +
         int64_t{spec.key_norm_heads} * DTypeSize(spec.key_norm_dtype());
}

// The storage of one layer. Every (page, head) slab is one contiguous run: the elements of
// page_size tokens, then the scales of all of them, then their zeros, where the format has any. The
// back end decides the order of elements; only it writes and reads them.
struct PagedKvView {
  KvSpec spec;
  int page_size = 0;  // tokens per page
  // A token's stride is KvHeadElements; a head's spans scales and zeros.
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
