#include "server/service_control.h"

#include <grpcpp/grpcpp.h>

#include "absl/strings/str_cat.h"
#include "server/access/authorization.h"
#include "server/generation.h"
#include "server/proto_convert.h"
#include "server/status.h"
#include "server/wire_message.h"

namespace mea {
namespace {

// A unary call that is answered at once.
template <typename Request, typename Response, typename Function>
grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context,
                                 const grpc::ByteBuffer& message, grpc::ByteBuffer& answer_message,
                                 Function answer) {
  Request request;
  Response response;
  absl::Status status = ParseMessage(message, request);
  if (status.ok()) status = answer(request, response);
  if (status.ok()) answer_message = SerializeMessage(response);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

}  // namespace

absl::Status ControlService::Check(const grpc::CallbackServerContext& context) const {
  return serving_.access->Check(Authorization(context), Right::kControl);
}

grpc::ServerUnaryReactor* ControlService::GetModelInfo(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request,
                                                       grpc::ByteBuffer* response) {
  return Answer<v1::GetModelInfoRequest, v1::GetModelInfoResponse>(
      context, *request, *response, [this, context](const auto& asked, auto& answer) {
        absl::Status status = serving_.access->Check(Authorization(*context), std::nullopt);
        if (status.ok()) status = CheckModel(asked.model(), serving_);
        if (status.ok()) ModelInfoToProto(serving_, answer);
        return status;
      });
}

grpc::ServerUnaryReactor* ControlService::GetServerInfo(grpc::CallbackServerContext* context,
                                                        const grpc::ByteBuffer* request,
                                                        grpc::ByteBuffer* response) {
  return Answer<v1::GetServerInfoRequest, v1::GetServerInfoResponse>(
      context, *request, *response, [this, context](const auto&, auto& answer) {
        const absl::Status status = Check(*context);
        if (status.ok()) ServerInfoToProto(serving_, answer);
        return status;
      });
}

grpc::ServerUnaryReactor* ControlService::GetCacheStats(grpc::CallbackServerContext* context,
                                                        const grpc::ByteBuffer* request,
                                                        grpc::ByteBuffer* response) {
  return Answer<v1::GetCacheStatsRequest, v1::GetCacheStatsResponse>(
      context, *request, *response, [this, context](const auto&, auto& answer) {
        const absl::Status status = Check(*context);
        if (status.ok()) CacheStatsToProto(serving_, answer);
        return status;
      });
}

grpc::ServerUnaryReactor* ControlService::GetLoad(grpc::CallbackServerContext* context,
                                                  const grpc::ByteBuffer* request,
                                                  grpc::ByteBuffer* response) {
  return Answer<v1::GetLoadRequest, v1::GetLoadResponse>(
      context, *request, *response, [this, context](const auto&, auto& answer) {
        const absl::Status status = Check(*context);
        if (status.ok()) LoadToProto(serving_, answer);
        return status;
      });
}

grpc::ServerUnaryReactor* ControlService::Abort(grpc::CallbackServerContext* context,
                                                const grpc::ByteBuffer* request,
                                                grpc::ByteBuffer* response) {
  return Answer<v1::AbortRequest, v1::AbortResponse>(
      context, *request, *response, [this, context](const auto& asked, auto&) -> absl::Status {
        if (absl::Status status = Check(*context); !status.ok()) return status;
        const std::string& id = asked.request_id();
        if (id.empty()) return absl::InvalidArgumentError("request_id is empty");
        const std::shared_ptr<Generation> generation = serving_.requests.Find(id);
        if (!generation) {
          return absl::NotFoundError(absl::StrCat("request_id '", id, "' is not in flight"));
        }
        generation->Cancel(absl::CancelledError("aborted by Control.Abort"));
        return absl::OkStatus();
      });
}

}  // namespace mea
