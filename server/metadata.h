#pragma once

#include <grpcpp/server_context.h>

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/refusal.h"
#include "server/limits.h"

namespace mea {

// RESOURCE_EXHAUSTED where a call brings more metadata than we take.
inline absl::Status CheckMetadata(const grpc::CallbackServerContext& context) {
  constexpr int64_t kBytesPerEntry = 32;  // beside its text, as HTTP/2 counts
  int64_t bytes = 0;
  for (const auto& [name, value] : context.client_metadata()) {
    bytes += static_cast<int64_t>(name.size() + value.size()) + kBytesPerEntry;
  }
  if (bytes <= kMaxMetadataBytes) return absl::OkStatus();
  return ResourceExhausted(
      absl::StrCat("metadata of ", bytes, " bytes exceeds ", kMaxMetadataBytes),
      "METADATA_TOO_LARGE");
}

}  // namespace mea
