#include "kvcache/kv_layout.h"

namespace mea {

int64_t UncompressedKvBytesPerToken(const KvSpec& spec, int kv_heads) {
  return int64_t{2} * kv_heads * spec.head_dim * DTypeSize(spec.dtype);
}

int64_t KvLayout::BytesPerToken() const {
  int64_t bytes = 0;
  for (const KvSpec& spec : layers) bytes += KvBytesPerToken(spec);
  return bytes;
}

int64_t KvLayout::UncompressedBytesPerToken() const {
  int64_t bytes = 0;
  for (const KvSpec& spec : layers) bytes += UncompressedKvBytesPerToken(spec, kv_heads);
  return bytes;
}

double KvLayout::CompressionRatio() const {
  return static_cast<double>(BytesPerToken()) / static_cast<double>(UncompressedBytesPerToken());
}

}  // namespace mea
