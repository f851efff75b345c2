#pragma once

#include "server/serving.h"
#include "vllm/grpc/engine/vllm_engine.pb.h"

namespace mea::vllm_engine {

// What the server says of itself.
void Fill(const Serving& serving, ::vllm::grpc::engine::GetModelInfoResponse& to);
void Fill(const Serving& serving, ::vllm::grpc::engine::GetServerInfoResponse& to);
void Fill(const Serving& serving, ::vllm::grpc::engine::GetLoadsResponse& to);
void Fill(const Serving& serving, ::vllm::grpc::engine::HealthCheckResponse& to);

}  // namespace mea::vllm_engine
