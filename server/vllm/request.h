#pragma once

#include "absl/status/status.h"
#include "mea/v1/inference.pb.h"
#include "vllm/grpc/engine/vllm_engine.pb.h"

namespace mea::vllm_engine {

// The same request in our interface, which checks it. UNIMPLEMENTED names what mea does not have.
absl::Status ToOurs(const ::vllm::grpc::engine::GenerateRequest& from, v1::GenerateRequest& to);

// A status about a field of our request, as one about the field that it came from.
absl::Status ToTheirs(const absl::Status& status);

}  // namespace mea::vllm_engine
