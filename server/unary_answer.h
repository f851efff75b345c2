#pragma once

#include <grpcpp/grpcpp.h>

#include <optional>

#include "server/access/authorization.h"
#include "server/metadata.h"
#include "server/serving.h"
#include "server/status.h"
#include "server/wire_message.h"

namespace mea {

// A unary call that is answered at once, if its key has the right; nullopt: if it has a key.
template <typename Request, typename Response, typename Function>
grpc::ServerUnaryReactor* AnswerAtOnce(Serving& serving, std::optional<Right> right,
                                       grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer& message,
                                       grpc::ByteBuffer& answer_message, Function answer) {
  if (!message.Valid()) serving.resets.Count(context->peer());
  Request request;
  Response response;
  absl::Status status = serving.access->Check(Authorization(*context), right);
  if (status.ok()) status = CheckMetadata(*context);
  if (status.ok()) status = ParseMessage(message, request);
  if (status.ok()) status = answer(request, response);
  if (status.ok()) answer_message = SerializeMessage(response);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

}  // namespace mea
