#pragma once

#include "mea/v1/control.grpc.pb.h"
#include "server/serving.h"

namespace mea {

// Gets bytes and gives bytes: see wire_message.h.
using RawControl = v1::Control::WithRawCallbackMethod_GetModelInfo<
    v1::Control::WithRawCallbackMethod_GetServerInfo<
        v1::Control::WithRawCallbackMethod_GetCacheStats<v1::Control::WithRawCallbackMethod_GetLoad<
            v1::Control::WithRawCallbackMethod_Abort<v1::Control::Service>>>>>;

// mea.v1.Control on gRPC's threads. Nothing here waits.
class ControlService final : public RawControl {
 public:
  explicit ControlService(Serving& serving) : serving_(serving) {}

  grpc::ServerUnaryReactor* GetModelInfo(grpc::CallbackServerContext* context,
                                         const grpc::ByteBuffer* request,
                                         grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* context,
                                          const grpc::ByteBuffer* request,
                                          grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* GetCacheStats(grpc::CallbackServerContext* context,
                                          const grpc::ByteBuffer* request,
                                          grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* GetLoad(grpc::CallbackServerContext* context,
                                    const grpc::ByteBuffer* request,
                                    grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Abort(grpc::CallbackServerContext* context,
                                  const grpc::ByteBuffer* request,
                                  grpc::ByteBuffer* response) override;

 private:
  Serving& serving_;
};

}  // namespace mea
