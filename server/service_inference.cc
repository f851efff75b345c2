#include "server/service_inference.h"

#include <optional>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/client_text.h"
#include "server/generate_call.h"
#include "server/limits.h"
#include "server/prepare_prompt.h"

namespace mea {
namespace {

// Writes one message at a time; while it is under way, output gathers in the mailbox.
class StreamCall final : public GenerateCall<grpc::ServerWriteReactor<v1::GenerateStreamResponse>> {
 public:
  using GenerateCall::GenerateCall;

  void OnOutput() override {
    absl::MutexLock lock(&mu_);
    WriteNext();
  }

  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mu_);
    writing_ = false;
    if (abandoned_) {
      Fail(*abandoned_);
    } else if (ok) {
      WriteNext();
    }  // else the call is broken, and OnCancel comes
  }

 private:
  void Abandon(const absl::Status& why) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (writing_) {
      abandoned_ = why;
    } else {
      Fail(why);
    }
  }

  void WriteNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (ended_ || writing_ || abandoned_) return;
    std::optional<Output> output = generation_->mailbox().Take();
    if (!output) return;
    std::visit([this](auto& o) { Write(std::move(o)); }, *output);
  }
  void Write(PromptOutput prompt) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    ToProto(prompt, request_id(), serving_, *response_.mutable_prompt());
    StartWriting();
  }
  void Write(DeltaOutput delta) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    response_.mutable_delta()->Clear();
    ToProto(std::move(delta), *response_.mutable_delta());
    StartWriting();
  }
  void Write(FinishOutput finish) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (!finish.status.ok()) {
      Fail(finish.status);
      return;
    }
    response_.mutable_finish()->Clear();
    ToProto(finish, *response_.mutable_finish());
    if (!finish.is_last) {
      StartWriting();
      return;
    }
    Count(absl::StatusCode::kOk, FinishReasonName(finish.reason));
    StartWriteAndFinish(&response_, grpc::WriteOptions(), grpc::Status::OK);
  }
  void StartWriting() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    writing_ = true;
    StartWrite(&response_);
  }

  v1::GenerateStreamResponse response_;  // gRPC's while writing_
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  std::optional<absl::Status> abandoned_ ABSL_GUARDED_BY(mu_);  // why, until the write is done
};

// Leaves the output in the mailbox until its end has come.
class UnaryCall final : public GenerateCall<grpc::ServerUnaryReactor> {
 public:
  UnaryCall(Serving& serving, v1::GenerateResponse* response)
      : GenerateCall(serving), response_(*response) {}

  void OnOutput() override {
    absl::MutexLock lock(&mu_);
    if (ended_ || !generation_->mailbox().finished()) return;
    while (std::optional<Output> output = generation_->mailbox().Take()) {
      std::visit([this](auto& o) { Write(std::move(o)); }, *output);
    }
  }

 private:
  void Write(PromptOutput prompt) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    ToProto(prompt, request_id(), serving_, *response_.mutable_prompt());
  }
  void Write(DeltaOutput delta) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    v1::Completion& completion = Completion(delta.index);
    ToProto(std::move(delta), completion);
  }
  void Write(FinishOutput finish) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (!finish.status.ok()) {
      Fail(finish.status);
      return;
    }
    ToProto(finish, *Completion(finish.index).mutable_finish());
    if (!finish.is_last) return;
    Count(absl::StatusCode::kOk, FinishReasonName(finish.reason));
    Finish(grpc::Status::OK);
  }
  v1::Completion& Completion(int index) {
    while (response_.completions_size() <= index) response_.add_completions();
    return *response_.mutable_completions(index);
  }

  v1::GenerateResponse& response_;  // gRPC's; lives until OnDone
};

absl::Status TooManyTexts() {
  return ResourceExhausted(absl::StrCat("the queue of ", kMaxTextJobs, " texts is full"),
                           "TEXT_QUEUE_FULL", kRetryDelay);
}

// Whether a call that a text worker answers still waits. Its reactor, and with it the context,
// lives until it is finished.
absl::Status Awaited(const grpc::CallbackServerContext& context) {
  if (absl::Now() >= absl::FromChrono(context.deadline())) {
    return absl::DeadlineExceededError("the deadline passed");
  }
  return context.IsCancelled() ? absl::CancelledError("cancelled by the client") : absl::OkStatus();
}

}  // namespace

grpc::ServerUnaryReactor* InferenceService::Generate(grpc::CallbackServerContext* context,
                                                     const v1::GenerateRequest* request,
                                                     v1::GenerateResponse* response) {
  auto call = std::make_shared<UnaryCall>(serving_, response);
  call->Begin(context, *request,
              {kMaxResponseBytes,
               ResourceExhausted(absl::StrCat("the response exceeds ", kMaxResponseBytes,
                                              " bytes; GenerateStream has no such bound"),
                                 "RESPONSE_TOO_LARGE")});
  return call.get();
}

grpc::ServerWriteReactor<v1::GenerateStreamResponse>* InferenceService::GenerateStream(
    grpc::CallbackServerContext* context, const v1::GenerateRequest* request) {
  auto call = std::make_shared<StreamCall>(serving_);
  call->Begin(
      context, *request,
      {kMaxUnreadBytes, ResourceExhausted(absl::StrCat("the client left more than ",
                                                       kMaxUnreadBytes, " bytes of output unread"),
                                          "OUTPUT_UNREAD")});
  return call.get();
}

absl::Status InferenceService::Admit(const grpc::CallbackServerContext& context) const {
  return serving_.access->Admit(Authorization(context)).status();
}

grpc::ServerUnaryReactor* InferenceService::Tokenize(grpc::CallbackServerContext* context,
                                                     const v1::TokenizeRequest* request,
                                                     v1::TokenizeResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  absl::Status status = Admit(*context);
  if (status.ok()) status = CheckTokenize(*request, serving_);
  const auto job = [this, reactor, context, request = *request, response] {
    const auto ids = EncodeText(
        serving_.tokenizer, "text", request.text(),
        PlainTextOptions(!request.has_add_special_tokens() || request.add_special_tokens(),
                         !request.has_parse_special() || request.parse_special()),
        [context] { return Awaited(*context); });
    if (!ids.ok()) return reactor->Finish(ToGrpcStatus(ids.status()));
    response->mutable_token_ids()->Add(ids->begin(), ids->end());
    response->set_max_context(serving_.engine.max_context());
    reactor->Finish(grpc::Status::OK);
  };
  if (status.ok() && !serving_.workers.Post(job)) status = TooManyTexts();
  if (!status.ok()) reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

grpc::ServerUnaryReactor* InferenceService::Detokenize(grpc::CallbackServerContext* context,
                                                       const v1::DetokenizeRequest* request,
                                                       v1::DetokenizeResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  absl::Status status = Admit(*context);
  if (status.ok()) status = CheckDetokenize(*request, serving_);
  const auto job = [this, reactor, context, request = *request, response] {
    const bool skip = !request.has_skip_special_tokens() || request.skip_special_tokens();
    absl::StatusOr<std::string> text =
        DecodeTokens(serving_.tokenizer, "token_ids",
                     {request.token_ids().data(), static_cast<size_t>(request.token_ids_size())},
                     skip, [context] { return Awaited(*context); });
    if (!text.ok()) return reactor->Finish(ToGrpcStatus(text.status()));
    response->set_text(*std::move(text));
    reactor->Finish(grpc::Status::OK);
  };
  if (status.ok() && !serving_.workers.Post(job)) status = TooManyTexts();
  if (!status.ok()) reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

grpc::ServerUnaryReactor* InferenceService::RenderChat(grpc::CallbackServerContext* context,
                                                       const v1::RenderChatRequest* request,
                                                       v1::RenderChatResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  absl::Status status = Admit(*context);
  absl::StatusOr<ChatSpec> chat = status.ok() ? FromProto(*request, serving_) : status;
  if (status.ok()) status = chat.status();
  const auto job = [this, reactor, context, chat, response] {
    absl::StatusOr<RenderedPrompt> prompt =
        RenderPrompt(*chat, serving_, [context] { return Awaited(*context); });
    if (!prompt.ok()) return reactor->Finish(ToGrpcStatus(prompt.status()));
    response->set_text(std::move(prompt->text));
    response->mutable_token_ids()->Add(prompt->token_ids.begin(), prompt->token_ids.end());
    response->set_max_context(serving_.engine.max_context());
    reactor->Finish(grpc::Status::OK);
  };
  if (status.ok() && !serving_.workers.Post(job)) status = TooManyTexts();
  if (!status.ok()) reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

}  // namespace mea
