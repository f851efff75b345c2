#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "mea/v1/control.pb.h"
#include "mea/v1/inference.pb.h"
#include "server/generation_spec.h"
#include "server/mailbox.h"
#include "server/serving.h"
#include "server/trace_context.h"

namespace mea {

// Between mea.v1 and the engine's types: the only files that see both.

// What the call says outside of its message.
struct CallInfo {
  std::string request_id;  // as RequestId gives it
  TraceContext trace;
  std::string label;  // as RequestLabel gives it
  absl::Time deadline = absl::InfiniteFuture();
  TextLease text;  // its place in the text budget
};

// The id of a request: its own, else a random one. Not checked yet.
std::string RequestId(const v1::GenerateRequest& request);

// NOT_FOUND unless `model` is empty or the one that is served.
absl::Status CheckModel(const std::string& model, const Serving& serving);

// Checks everything that can be checked before the prompt is tokenized, and resolves what is unset:
// request, then generation_config.json, then the built-in default. INVALID_ARGUMENT names field,
// value and bound; UNIMPLEMENTED the field that is not served; NOT_FOUND the model.
absl::StatusOr<GenerationSpec> FromProto(const v1::GenerateRequest& request, const CallInfo& call,
                                         const Serving& serving);

// Only the conversation, checked in the same way.
absl::StatusOr<ChatSpec> FromProto(const v1::RenderChatRequest& request, const Serving& serving);

absl::Status CheckTokenize(const v1::TokenizeRequest& request, const Serving& serving);
absl::Status CheckDetokenize(const v1::DetokenizeRequest& request, const Serving& serving);

void ToProto(const PromptOutput& prompt, const std::string& request_id, const Serving& serving,
             v1::PromptInfo& to);
void ToProto(DeltaOutput delta, v1::Delta& to);
// Appends to `to`.
void ToProto(DeltaOutput delta, v1::Completion& to);
void ToProto(const FinishOutput& finish, v1::Finish& to);
// "stop", "length", "cancelled": the names in metrics and on the command line.
std::string FinishReasonName(FinishReason reason);

void ModelInfoToProto(const Serving& serving, v1::GetModelInfoResponse& to);
void ServerInfoToProto(const Serving& serving, v1::GetServerInfoResponse& to);
void CacheStatsToProto(const Serving& serving, v1::GetCacheStatsResponse& to);
void LoadToProto(const Serving& serving, v1::GetLoadResponse& to);

}  // namespace mea
