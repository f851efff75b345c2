#include "server/vllm/generate_call.h"

#include <utility>
#include <variant>

#include "kernels/status_macros.h"
#include "server/vllm/request.h"

namespace mea::vllm_engine {

absl::Status EngineCall::Read(const grpc::ByteBuffer& message, v1::GenerateRequest& request) {
  ::vllm::grpc::engine::GenerateRequest theirs;
  MEA_RETURN_IF_ERROR(ParseMessage(message, theirs));
  responses_ = EngineResponses(theirs);
  return ToOurs(theirs, request);
}

absl::Status EngineCall::Translate(const absl::Status& status) const { return ToTheirs(status); }

OutputBound EngineCall::Bound() const {
  return responses_.streams() ? StreamBound() : WholeBound("stream");
}

std::optional<grpc::ByteBuffer> EngineCall::Message(Output output) {
  v1::GenerateStreamResponse event;
  if (auto* prompt = std::get_if<PromptOutput>(&output)) {
    ToProto(*prompt, request_id(), serving_, *event.mutable_prompt());
  } else if (auto* delta = std::get_if<DeltaOutput>(&output)) {
    ToProto(std::move(*delta), *event.mutable_delta());
  } else {
    ToProto(std::get<FinishOutput>(output), *event.mutable_finish());
  }
  const auto response = responses_.Next(std::move(event));
  if (!response) return std::nullopt;
  return SerializeMessage(*response);
}

}  // namespace mea::vllm_engine
