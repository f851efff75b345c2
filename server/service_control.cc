#include "server/service_control.h"

#include <optional>

#include "absl/strings/str_cat.h"
#include "server/generation.h"
#include "server/limits.h"
#include "server/proto_convert.h"
#include "server/unary_answer.h"

namespace mea {
grpc::ServerUnaryReactor* ControlService::GetModelInfo(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request,
                                                       grpc::ByteBuffer* response) {
  return AnswerAtOnce<v1::GetModelInfoRequest, v1::GetModelInfoResponse>(
      serving_, std::nullopt, context, *request, *response,
      [this](const auto& asked, auto& answer) {
        const absl::Status status = CheckModel(asked.model(), serving_);
        if (status.ok()) ModelInfoToProto(serving_, answer);
        return status;
      });
}

grpc::ServerUnaryReactor* ControlService::GetServerInfo(grpc::CallbackServerContext* context,
                                                        const grpc::ByteBuffer* request,
                                                        grpc::ByteBuffer* response) {
  return AnswerAtOnce<v1::GetServerInfoRequest, v1::GetServerInfoResponse>(
      serving_, Right::kControl, context, *request, *response, [this](const auto&, auto& answer) {
        ServerInfoToProto(serving_, answer);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* ControlService::GetCacheStats(grpc::CallbackServerContext* context,
                                                        const grpc::ByteBuffer* request,
                                                        grpc::ByteBuffer* response) {
  return AnswerAtOnce<v1::GetCacheStatsRequest, v1::GetCacheStatsResponse>(
      serving_, Right::kControl, context, *request, *response, [this](const auto&, auto& answer) {
        CacheStatsToProto(serving_, answer);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* ControlService::GetLoad(grpc::CallbackServerContext* context,
                                                  const grpc::ByteBuffer* request,
                                                  grpc::ByteBuffer* response) {
  return AnswerAtOnce<v1::GetLoadRequest, v1::GetLoadResponse>(
      serving_, Right::kControl, context, *request, *response, [this](const auto&, auto& answer) {
        LoadToProto(serving_, answer);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* ControlService::Abort(grpc::CallbackServerContext* context,
                                                const grpc::ByteBuffer* request,
                                                grpc::ByteBuffer* response) {
  return AnswerAtOnce<v1::AbortRequest, v1::AbortResponse>(
      serving_, Right::kControl, context, *request, *response,
      [this](const auto& asked, auto&) -> absl::Status {
        const std::string& id = asked.request_id();
        if (id.empty()) return absl::InvalidArgumentError("request_id is empty");
        if (std::ssize(id) > kMaxRequestIdBytes) {
          return absl::InvalidArgumentError(absl::StrCat(
              "request_id has ", id.size(), " bytes, the most is ", kMaxRequestIdBytes));
        }
        const std::shared_ptr<Generation> generation = serving_.requests.Find(id);
        if (!generation) {
          return absl::NotFoundError(absl::StrCat("request_id '", id, "' is not in flight"));
        }
        generation->Cancel(absl::CancelledError("aborted by Control.Abort"));
        return absl::OkStatus();
      });
}

}  // namespace mea
