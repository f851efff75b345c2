#pragma once

#include <grpcpp/server_context.h>

#include <string_view>

namespace mea {

// The metadata that says who calls; empty if there is none.
inline std::string_view Authorization(const grpc::CallbackServerContext& context) {
  const auto& metadata = context.client_metadata();
  const auto it = metadata.find("authorization");
  if (it == metadata.end()) return {};
  return {it->second.data(), it->second.size()};
}

}  // namespace mea
