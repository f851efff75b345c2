#pragma once

#include "mea/v1/inference.grpc.pb.h"
#include "server/serving.h"

namespace mea {

// mea.v1.Inference on gRPC's threads. Each call is a reactor of its own that owns a Generation.
class InferenceService final : public v1::Inference::CallbackService {
 public:
  explicit InferenceService(Serving& serving) : serving_(serving) {}

  grpc::ServerUnaryReactor* Generate(grpc::CallbackServerContext* context,
                                     const v1::GenerateRequest* request,
                                     v1::GenerateResponse* response) override;
  grpc::ServerWriteReactor<v1::GenerateStreamResponse>* GenerateStream(
      grpc::CallbackServerContext* context, const v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* response) override;
  grpc::ServerUnaryReactor* RenderChat(grpc::CallbackServerContext* context,
                                       const v1::RenderChatRequest* request,
                                       v1::RenderChatResponse* response) override;

 private:
  // A call that is over soon: it counts as a request, and not as one under way.
  absl::Status Admit(const grpc::CallbackServerContext& context) const;

  Serving& serving_;
};

}  // namespace mea
