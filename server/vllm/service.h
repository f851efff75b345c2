#pragma once

#include "server/serving.h"
#include "server/vllm/tokenizer_archive.h"
#include "vllm/grpc/engine/vllm_engine.grpc.pb.h"

namespace mea::vllm_engine {

namespace engine = ::vllm::grpc::engine;

// Gets bytes and gives bytes: see wire_message.h.
using RawCalls = engine::VllmEngine::WithRawCallbackMethod_Generate<
    engine::VllmEngine::WithRawCallbackMethod_HealthCheck<
        engine::VllmEngine::WithRawCallbackMethod_Abort<
            engine::VllmEngine::WithRawCallbackMethod_GetModelInfo<
                engine::VllmEngine::WithRawCallbackMethod_GetServerInfo<
                    engine::VllmEngine::WithRawCallbackMethod_GetLoads<
                        engine::VllmEngine::WithRawCallbackMethod_GetTokenizer<
                            engine::VllmEngine::WithRawCallbackMethod_FlushCache<
                                engine::VllmEngine::WithRawCallbackMethod_SubscribeKvEvents<
                                    engine::VllmEngine::Service>>>>>>>>>;
using RawVllmEngine = engine::VllmEngine::WithRawCallbackMethod_Embed<
    engine::VllmEngine::WithRawCallbackMethod_StartProfile<
        engine::VllmEngine::WithRawCallbackMethod_StopProfile<RawCalls>>>;

// vllm.grpc.engine.VllmEngine on gRPC's threads.
class VllmEngineService final : public RawVllmEngine {
 public:
  explicit VllmEngineService(Serving& serving);

  grpc::ServerWriteReactor<grpc::ByteBuffer>* Generate(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* HealthCheck(grpc::CallbackServerContext* context,
                                        const grpc::ByteBuffer* request,
                                        grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Abort(grpc::CallbackServerContext* context,
                                  const grpc::ByteBuffer* request,
                                  grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* GetModelInfo(grpc::CallbackServerContext* context,
                                         const grpc::ByteBuffer* request,
                                         grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* context,
                                          const grpc::ByteBuffer* request,
                                          grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* GetLoads(grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* GetTokenizer(
      grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* FlushCache(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* SubscribeKvEvents(
      grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* Embed(grpc::CallbackServerContext* context,
                                  const grpc::ByteBuffer* request,
                                  grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* StartProfile(grpc::CallbackServerContext* context,
                                         const grpc::ByteBuffer* request,
                                         grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* StopProfile(grpc::CallbackServerContext* context,
                                        const grpc::ByteBuffer* request,
                                        grpc::ByteBuffer* response) override;

 private:
  Serving& serving_;
  TokenizerArchive tokenizer_;
};

}  // namespace mea::vllm_engine
