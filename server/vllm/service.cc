#include "server/vllm/service.h"

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/generation.h"
#include "server/unary_answer.h"
#include "server/vllm/generate_call.h"
#include "server/vllm/info.h"
#include "server/vllm/subscribe_call.h"
#include "server/vllm/tokenizer_call.h"

namespace mea::vllm_engine {
namespace {

grpc::ServerUnaryReactor* NotServed(Serving& serving, grpc::CallbackServerContext* context,
                                    const grpc::ByteBuffer& request, const char* method) {
  if (!request.Valid()) serving.resets.Count(context->peer());
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(
      grpc::Status(grpc::StatusCode::UNIMPLEMENTED, absl::StrCat(method, " is not served")));
  return reactor;
}

}  // namespace

VllmEngineService::VllmEngineService(Serving& serving)
    : serving_(serving),
      tokenizer_(serving.engine.options().model_dir,
                 serving.chat == nullptr ? "" : std::string(serving.chat->source())) {}

grpc::ServerWriteReactor<grpc::ByteBuffer>* VllmEngineService::Generate(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  if (!request->Valid()) {
    serving_.resets.Count(context->peer());
    return new StreamWithoutMessage();
  }
  const auto call = std::make_shared<EngineCall>(serving_);
  call->Begin(context, *request);
  return call.get();
}

// Without a key, like gRPC's own health service.
grpc::ServerUnaryReactor* VllmEngineService::HealthCheck(grpc::CallbackServerContext* context,
                                                         const grpc::ByteBuffer* request,
                                                         grpc::ByteBuffer* response) {
  if (!request->Valid()) serving_.resets.Count(context->peer());
  engine::HealthCheckResponse health;
  Fill(serving_, health);
  *response = SerializeMessage(health);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* VllmEngineService::Abort(grpc::CallbackServerContext* context,
                                                   const grpc::ByteBuffer* request,
                                                   grpc::ByteBuffer* response) {
  return AnswerAtOnce<engine::AbortRequest, engine::AbortResponse>(
      serving_, Right::kControl, context, *request, *response, [this](const auto& asked, auto&) {
        for (const std::string& id : asked.request_ids()) {
          if (const auto generation = serving_.requests.Find(id)) {
            generation->Cancel(absl::CancelledError("aborted by VllmEngine.Abort"));
          }
        }
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* VllmEngineService::GetModelInfo(grpc::CallbackServerContext* context,
                                                          const grpc::ByteBuffer* request,
                                                          grpc::ByteBuffer* response) {
  return AnswerAtOnce<engine::GetModelInfoRequest, engine::GetModelInfoResponse>(
      serving_, std::nullopt, context, *request, *response, [this](const auto&, auto& answer) {
        Fill(serving_, answer);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* VllmEngineService::GetServerInfo(grpc::CallbackServerContext* context,
                                                           const grpc::ByteBuffer* request,
                                                           grpc::ByteBuffer* response) {
  return AnswerAtOnce<engine::GetServerInfoRequest, engine::GetServerInfoResponse>(
      serving_, Right::kControl, context, *request, *response, [this](const auto&, auto& answer) {
        Fill(serving_, answer);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* VllmEngineService::GetLoads(grpc::CallbackServerContext* context,
                                                      const grpc::ByteBuffer* request,
                                                      grpc::ByteBuffer* response) {
  return AnswerAtOnce<engine::GetLoadsRequest, engine::GetLoadsResponse>(
      serving_, Right::kControl, context, *request, *response, [this](const auto&, auto& answer) {
        Fill(serving_, answer);
        return absl::OkStatus();
      });
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* VllmEngineService::GetTokenizer(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  if (!request->Valid()) {
    serving_.resets.Count(context->peer());
    return new StreamWithoutMessage();
  }
  auto* call = new TokenizerCall(serving_, tokenizer_);  // gRPC's
  call->Begin(*context);
  return call;
}

grpc::ServerUnaryReactor* VllmEngineService::FlushCache(grpc::CallbackServerContext* context,
                                                        const grpc::ByteBuffer* request,
                                                        grpc::ByteBuffer* response) {
  return AnswerAtOnce<::smg::grpc::common::FlushCacheRequest,
                      ::smg::grpc::common::FlushCacheResponse>(
      serving_, Right::kControl, context, *request, *response, [this](const auto&, auto& answer) {
        serving_.engine.ClearPrefixCache();
        answer.set_success(true);
        answer.set_message("cached prefixes are forgotten with the next step");
        return absl::OkStatus();
      });
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* VllmEngineService::SubscribeKvEvents(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  if (!request->Valid()) {
    serving_.resets.Count(context->peer());
    return new StreamWithoutMessage();
  }
  const auto call = std::make_shared<SubscribeCall>(serving_);
  call->Begin(*context, *request);
  return call.get();
}

grpc::ServerUnaryReactor* VllmEngineService::Embed(grpc::CallbackServerContext* context,
                                                   const grpc::ByteBuffer* request,
                                                   grpc::ByteBuffer*) {
  return NotServed(serving_, context, *request, "Embed");
}

grpc::ServerUnaryReactor* VllmEngineService::StartProfile(grpc::CallbackServerContext* context,
                                                          const grpc::ByteBuffer* request,
                                                          grpc::ByteBuffer*) {
  return NotServed(serving_, context, *request, "StartProfile");
}

grpc::ServerUnaryReactor* VllmEngineService::StopProfile(grpc::CallbackServerContext* context,
                                                         const grpc::ByteBuffer* request,
                                                         grpc::ByteBuffer*) {
  return NotServed(serving_, context, *request, "StopProfile");
}

}  // namespace mea::vllm_engine
