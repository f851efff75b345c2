#include "server/service_control.h"

#include <grpcpp/grpcpp.h>

#include "absl/strings/str_cat.h"
#include "server/access/authorization.h"
#include "server/generation.h"
#include "server/proto_convert.h"
#include "server/status.h"

namespace mea {
namespace {

grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context,
                                 const absl::Status& status = absl::OkStatus()) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

}  // namespace

absl::Status ControlService::Check(const grpc::CallbackServerContext& context) const {
  return serving_.access->Check(Authorization(context), Right::kControl);
}

grpc::ServerUnaryReactor* ControlService::GetModelInfo(grpc::CallbackServerContext* context,
                                                       const v1::GetModelInfoRequest* request,
                                                       v1::GetModelInfoResponse* response) {
  absl::Status status = serving_.access->Check(Authorization(*context), std::nullopt);
  if (status.ok()) status = CheckModel(request->model(), serving_);
  if (status.ok()) ModelInfoToProto(serving_, *response);
  return Answer(context, status);
}

grpc::ServerUnaryReactor* ControlService::GetServerInfo(grpc::CallbackServerContext* context,
                                                        const v1::GetServerInfoRequest*,
                                                        v1::GetServerInfoResponse* response) {
  const absl::Status status = Check(*context);
  if (status.ok()) ServerInfoToProto(serving_, *response);
  return Answer(context, status);
}

grpc::ServerUnaryReactor* ControlService::GetCacheStats(grpc::CallbackServerContext* context,
                                                        const v1::GetCacheStatsRequest*,
                                                        v1::GetCacheStatsResponse* response) {
  const absl::Status status = Check(*context);
  if (status.ok()) CacheStatsToProto(serving_, *response);
  return Answer(context, status);
}

grpc::ServerUnaryReactor* ControlService::GetLoad(grpc::CallbackServerContext* context,
                                                  const v1::GetLoadRequest*,
                                                  v1::GetLoadResponse* response) {
  const absl::Status status = Check(*context);
  if (status.ok()) LoadToProto(serving_, *response);
  return Answer(context, status);
}

grpc::ServerUnaryReactor* ControlService::Abort(grpc::CallbackServerContext* context,
                                                const v1::AbortRequest* request,
                                                v1::AbortResponse*) {
  if (absl::Status status = Check(*context); !status.ok()) return Answer(context, status);
  const std::string& id = request->request_id();
  if (id.empty()) return Answer(context, absl::InvalidArgumentError("request_id is empty"));
  const std::shared_ptr<Generation> generation = serving_.requests.Find(id);
  if (!generation) {
    return Answer(context,
                  absl::NotFoundError(absl::StrCat("request_id '", id, "' is not in flight")));
  }
  generation->Cancel(absl::CancelledError("aborted by Control.Abort"));
  return Answer(context);
}

}  // namespace mea
