#include "server/service_inference.h"

#include <optional>
#include <variant>

#include "absl/strings/str_cat.h"
#include "engine/clock.h"
#include "kernels/status_macros.h"
#include "server/client_text.h"
#include "server/limits.h"
#include "server/metadata.h"
#include "server/prepare_prompt.h"
#include "server/stream_call.h"

namespace mea {
namespace {

class GenerateStreamCall final : public StreamCall {
 public:
  using StreamCall::StreamCall;

 private:
  OutputBound Bound() const override { return StreamBound(); }
  std::optional<grpc::ByteBuffer> Message(Output output) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    std::visit([this](auto& o) { Set(std::move(o)); }, output);
    return SerializeMessage(response_);
  }
  void Set(PromptOutput prompt) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    ToProto(prompt, request_id(), serving_, *response_.mutable_prompt());
  }
  void Set(DeltaOutput delta) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    response_.mutable_delta()->Clear();
    ToProto(std::move(delta), *response_.mutable_delta());
  }
  void Set(const FinishOutput& finish) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    response_.mutable_finish()->Clear();
    ToProto(finish, *response_.mutable_finish());
  }

  v1::GenerateStreamResponse response_ ABSL_GUARDED_BY(mu_);
};

// Leaves the output in the mailbox until it is complete.
class UnaryCall final : public GenerateCall<grpc::ServerUnaryReactor> {
 public:
  UnaryCall(Serving& serving, grpc::ByteBuffer* message)
      : GenerateCall(serving), message_(*message) {}

  void OnOutput() override {
    absl::MutexLock lock(&mu_);
    if (ended_ || !generation_->mailbox().finished()) return;
    while (std::optional<Output> output = generation_->mailbox().Take()) {
      std::visit([this](auto& o) { Write(std::move(o)); }, *output);
    }
  }

 private:
  OutputBound Bound() const override { return WholeBound("GenerateStream"); }
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
    message_ = SerializeMessage(response_);
    Finish(grpc::Status::OK);
  }
  v1::Completion& Completion(int index) {
    while (response_.completions_size() <= index) response_.add_completions();
    return *response_.mutable_completions(index);
  }

  v1::GenerateResponse response_;
  grpc::ByteBuffer& message_;  // owned by gRPC; lives until OnDone
};

absl::Status TooManyTexts() {
  return ResourceExhausted(absl::StrCat("the queue of ", kMaxTextJobs, " texts is full"),
                           "TEXT_QUEUE_FULL", kRetryDelay);
}

// Whether a call that a text worker answers is still open. Its reactor, and with it the context,
// lives until the call is finished.
absl::Status Awaited(const grpc::CallbackServerContext& context) {
  if (Now() >= FromWallClock(absl::FromChrono(context.deadline()))) {
    return absl::DeadlineExceededError("the deadline passed");
  }
  return context.IsCancelled() ? absl::CancelledError("cancelled by the client") : absl::OkStatus();
}

absl::Status TooLargeAnswer(int64_t bytes) {
  return ResourceExhausted(
      absl::StrCat("the response of ", bytes, " bytes exceeds ", kMaxResponseBytes),
      "RESPONSE_TOO_LARGE");
}

absl::Status Tokenize(const v1::TokenizeRequest& request, const Serving& serving,
                      StillWanted still_wanted, v1::TokenizeResponse& response) {
  MEA_ASSIGN_OR_RETURN(
      const auto ids,
      EncodeText(serving.tokenizer, "text", request.text(),
                 PlainTextOptions(!request.has_add_special_tokens() || request.add_special_tokens(),
                                  !request.has_parse_special() || request.parse_special()),
                 still_wanted));
  response.mutable_token_ids()->Add(ids.begin(), ids.end());
  response.set_max_context(serving.engine.max_context());
  return absl::OkStatus();
}

absl::Status Detokenize(const v1::DetokenizeRequest& request, const Serving& serving,
                        StillWanted still_wanted, v1::DetokenizeResponse& response) {
  const bool skip = !request.has_skip_special_tokens() || request.skip_special_tokens();
  // A few bytes may name a long token, so the size is checked before the text is made.
  int64_t bytes = 0;
  for (const int32_t id : request.token_ids()) {
    if (skip && serving.tokenizer.IsSpecial(id)) continue;
    bytes += std::ssize(serving.tokenizer.TokenBytes(id));
  }
  if (bytes > kMaxResponseBytes) return TooLargeAnswer(bytes);
  MEA_ASSIGN_OR_RETURN(
      std::string text,
      DecodeTokens(serving.tokenizer, "token_ids",
                   {request.token_ids().data(), static_cast<size_t>(request.token_ids_size())},
                   skip, still_wanted));
  response.set_text(std::move(text));
  return absl::OkStatus();
}

class TextReactor final : public grpc::ServerUnaryReactor {
 public:
  explicit TextReactor(Serving& serving) : call_(serving.open_calls.Hold()) {}
  void OnDone() override { delete this; }

 private:
  const std::shared_ptr<void> call_;
};

// A unary call whose answer a text worker makes. `read` checks the request on gRPC's thread;
// `answer` makes the response from its result.
template <typename Request, typename Response, typename Read, typename Answer>
grpc::ServerUnaryReactor* AnswerOnTextWorker(Serving& serving, grpc::CallbackServerContext* context,
                                             const grpc::ByteBuffer& message,
                                             grpc::ByteBuffer* answer_message, Read read,
                                             Answer answer) {
  auto* reactor = new TextReactor(serving);  // gRPC's
  if (!message.Valid()) {
    serving.resets.Count(context->peer());
    reactor->Finish(NoMessage());
    return reactor;
  }
  // It counts as a request but not as a running one, because it is short.
  absl::Status admitted = serving.access->Admit(Authorization(*context)).status();
  const auto under_way = serving.text_calls.Hold();
  if (admitted.ok()) admitted = CheckMetadata(*context);
  if (admitted.ok()) admitted = serving.readiness.CheckNotDraining();
  const absl::StatusOr<TextLease> text =
      admitted.ok() ? serving.text_budget.Take(message.Length()) : admitted;
  const auto request = std::make_shared<Request>();
  absl::Status status = text.ok() ? ParseMessage(message, *request) : text.status();
  if (status.ok()) status = read(*request);
  if (status.ok()) {
    const auto job = [=, text = *text, under_way = under_way] {
      Response response;
      absl::Status answered = Awaited(*context);
      if (answered.ok())
        answered = answer(
            *request, [&] { return Awaited(*context); }, response);
      const auto bytes = static_cast<int64_t>(response.ByteSizeLong());
      if (answered.ok() && bytes > kMaxResponseBytes) answered = TooLargeAnswer(bytes);
      if (answered.ok()) *answer_message = SerializeMessage(response);
      reactor->Finish(ToGrpcStatus(answered));
    };
    if (!serving.workers.Post(job, text->bytes)) status = TooManyTexts();
  }
  if (!status.ok()) reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

}  // namespace

grpc::ServerUnaryReactor* InferenceService::Generate(grpc::CallbackServerContext* context,
                                                     const grpc::ByteBuffer* request,
                                                     grpc::ByteBuffer* response) {
  if (!request->Valid()) {
    serving_.resets.Count(context->peer());
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(NoMessage());
    return reactor;
  }
  auto call = std::make_shared<UnaryCall>(serving_, response);
  call->Begin(context, *request);
  return call.get();
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* InferenceService::GenerateStream(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  if (!request->Valid()) {
    serving_.resets.Count(context->peer());
    return new StreamWithoutMessage();
  }
  auto call = std::make_shared<GenerateStreamCall>(serving_);
  call->Begin(context, *request);
  return call.get();
}

grpc::ServerUnaryReactor* InferenceService::Tokenize(grpc::CallbackServerContext* context,
                                                     const grpc::ByteBuffer* request,
                                                     grpc::ByteBuffer* response) {
  return AnswerOnTextWorker<v1::TokenizeRequest, v1::TokenizeResponse>(
      serving_, context, *request, response,
      [this](const auto& asked) { return CheckTokenize(asked, serving_); },
      [this](const auto& asked, StillWanted still_wanted, auto& answer) {
        return mea::Tokenize(asked, serving_, still_wanted, answer);
      });
}

grpc::ServerUnaryReactor* InferenceService::Detokenize(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request,
                                                       grpc::ByteBuffer* response) {
  return AnswerOnTextWorker<v1::DetokenizeRequest, v1::DetokenizeResponse>(
      serving_, context, *request, response,
      [this](const auto& asked) { return CheckDetokenize(asked, serving_); },
      [this](const auto& asked, StillWanted still_wanted, auto& answer) {
        return mea::Detokenize(asked, serving_, still_wanted, answer);
      });
}

grpc::ServerUnaryReactor* InferenceService::RenderChat(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request,
                                                       grpc::ByteBuffer* response) {
  const auto chat = std::make_shared<ChatSpec>();
  return AnswerOnTextWorker<v1::RenderChatRequest, v1::RenderChatResponse>(
      serving_, context, *request, response,
      [this, chat](const auto& asked) {
        absl::StatusOr<ChatSpec> read = FromProto(asked, serving_);
        if (read.ok()) *chat = *std::move(read);
        return read.status();
      },
      [this, chat](const auto&, StillWanted still_wanted, auto& answer) {
        MEA_ASSIGN_OR_RETURN(RenderedPrompt prompt, RenderPrompt(*chat, serving_, still_wanted));
        answer.set_text(std::move(prompt.text));
        answer.mutable_token_ids()->Add(prompt.token_ids.begin(), prompt.token_ids.end());
        answer.set_max_context(serving_.engine.max_context());
        return absl::OkStatus();
      });
}

}  // namespace mea
