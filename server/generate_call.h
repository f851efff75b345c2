#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "engine/clock.h"
#include "kernels/status_macros.h"
#include "mea/v1/inference.pb.h"
#include "server/access/authorization.h"
#include "server/generation.h"
#include "server/load_report.h"
#include "server/metadata.h"
#include "server/proto_convert.h"
#include "server/status.h"
#include "server/trace_context.h"
#include "server/wire_message.h"

namespace mea {

// The status of a call that ended before its message arrived: nobody waits for an answer, and a
// flood of such calls must be cheap.
inline grpc::Status NoMessage() {
  return grpc::Status(grpc::StatusCode::CANCELLED, "the call brought no message");
}

// The common part of the unary and the streaming call: the request's way in, and exactly one status
// out. gRPC keeps the pointer until OnDone, text workers hold it while they notify; the last of
// them destroys it.
template <typename Reactor>
class GenerateCall : public Reactor,
                     public OutputListener,
                     public std::enable_shared_from_this<GenerateCall<Reactor>> {
 public:
  explicit GenerateCall(Serving& serving) : serving_(serving) {}

  void Begin(grpc::CallbackServerContext* context, const grpc::ByteBuffer& message) {
    self_ = this->shared_from_this();
    context_ = context;
    serving_.open_calls.Enter();
    CallInfo call = ReadCallInfo(*context);
    const absl::Status status = StartGeneration(context, message, call);
    if (status.ok()) return;
    const RequestTag tag{call.request_id, call.trace, call.label};
    serving_.request_log.Refused(tag, status);
    serving_.request_traces.Refused(tag, status, arrival_);
    absl::MutexLock lock(&mu_);
    Fail(status);
  }

  void OnCancel() override {
    const bool expired = generation_ && Now() >= generation_->spec().request.deadline;
    absl::Status why = expired ? absl::DeadlineExceededError("the deadline passed")
                               : absl::CancelledError("cancelled by the client");
    if (generation_) generation_->Cancel(why);
    absl::MutexLock lock(&mu_);
    if (!ended_) Abandon(why);
  }

  void OnDone() override {
    serving_.open_calls.Leave();
    self_.reset();
  }

 protected:
  // Reads a message of the call's interface, and what `status` is in its words.
  virtual absl::Status Read(const grpc::ByteBuffer& message, v1::GenerateRequest& request) {
    return ParseMessage(message, request);
  }
  virtual absl::Status Translate(const absl::Status& status) const { return status; }
  // Of the output that waits for the client; asked for once the message is read.
  virtual OutputBound Bound() const = 0;

  // The client is gone: nothing more is sent.
  virtual void Abandon(const absl::Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { Fail(why); }

  // The end of the call: only these two end it.
  void Fail(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    Count(status.code(), "");
    Reactor::Finish(ToGrpcStatus(Translate(status)));
  }
  void Count(absl::StatusCode code, const std::string& finish_reason)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    ended_ = true;
    const bool may_know =
        code != absl::StatusCode::kUnauthenticated && code != absl::StatusCode::kPermissionDenied;
    if (may_know) AddLoadReport();
    serving_.metrics.CountRequest(code, finish_reason, Now() - arrival_);
  }

  const std::string& request_id() const { return generation_->spec().request.id; }

  Serving& serving_;
  std::shared_ptr<Generation> generation_;  // null if the request was refused
  absl::Mutex mu_;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;

 private:
  static std::string_view Metadata(const grpc::CallbackServerContext& context, const char* key) {
    const auto it = context.client_metadata().find(key);
    return it == context.client_metadata().end()
               ? std::string_view()
               : std::string_view(it->second.data(), it->second.size());
  }

  static CallInfo ReadCallInfo(const grpc::CallbackServerContext& context) {
    return {.trace =
                ReadTraceContext(Metadata(context, "traceparent"), Metadata(context, "tracestate")),
            .label = RequestLabel(Metadata(context, "x-request-id")),
            .deadline = FromWallClock(absl::FromChrono(context.deadline()))};
  }

  // In the trailers, which go with the status.
  void AddLoadReport() {
    const auto report = LoadReport(Metadata(*context_, kLoadFormatHeader), serving_);
    if (report) context_->AddTrailingMetadata(report->first, report->second);
  }

  absl::Status StartGeneration(grpc::CallbackServerContext* context,
                               const grpc::ByteBuffer& message, CallInfo& call) {
    absl::StatusOr<std::shared_ptr<KeyCall>> key_call =
        serving_.access->Admit(Authorization(*context));
    v1::GenerateRequest request;
    absl::Status read = CheckMetadata(*context);
    if (read.ok()) read = key_call.status();
    if (read.ok()) {
      absl::StatusOr<TextLease> text = serving_.text_budget.Take(message.Length());
      read = text.ok() ? Read(message, request) : text.status();
      if (read.ok()) call.text = *std::move(text);
    }
    call.request_id = RequestId(request);
    MEA_RETURN_IF_ERROR(read);
    MEA_ASSIGN_OR_RETURN(auto spec, FromProto(request, call, serving_));
    spec.key_call = *std::move(key_call);
    context->AddInitialMetadata("x-request-id", call.label.empty() ? call.request_id : call.label);
    auto generation =
        std::make_shared<Generation>(serving_, std::move(spec), Bound(), this->weak_from_this());
    // Set before the first output can come.
    generation_ = generation;
    return generation->Start();
  }

  const absl::Time arrival_ = Now();
  grpc::CallbackServerContext* context_ = nullptr;  // gRPC's, until OnDone
  std::shared_ptr<GenerateCall> self_;              // what gRPC holds
};

}  // namespace mea
