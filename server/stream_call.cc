#include "server/stream_call.h"

#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "server/limits.h"

namespace mea {

void StreamCall::OnOutput() {
  absl::MutexLock lock(&mu_);
  WriteNext();
}

void StreamCall::OnWriteDone(bool ok) {
  absl::MutexLock lock(&mu_);
  writing_ = false;
  if (abandoned_) {
    Fail(*abandoned_);
  } else if (ok) {
    WriteNext();
  }  // else the call is broken, and OnCancel comes
}

void StreamCall::Abandon(const absl::Status& why) {
  if (writing_) {
    abandoned_ = why;
  } else {
    Fail(why);
  }
}

void StreamCall::WriteNext() {
  while (!ended_ && !writing_ && !abandoned_) {
    if (!sends_pieces() && !generation_->mailbox().finished()) return;
    std::optional<Output> output = generation_->mailbox().Take();
    if (!output) return;
    const auto* finish = std::get_if<FinishOutput>(&*output);
    if (finish != nullptr && !finish->status.ok()) {
      Fail(finish->status);
      return;
    }
    const bool is_last = finish != nullptr && finish->is_last;
    const std::string reason = is_last ? FinishReasonName(finish->reason) : "";
    std::optional<grpc::ByteBuffer> message = Message(*std::move(output));
    if (!message) continue;
    message_ = *std::move(message);
    if (is_last) {
      Count(absl::StatusCode::kOk, reason);
      StartWriteAndFinish(&message_, grpc::WriteOptions(), grpc::Status::OK);
    } else {
      writing_ = true;
      StartWrite(&message_);
    }
  }
}

OutputBound StreamBound() {
  return {kMaxUnreadBytes,
          ResourceExhausted(absl::StrCat("the client left more than ", kMaxUnreadBytes,
                                         " bytes of output unread"),
                            "OUTPUT_UNREAD")};
}

OutputBound WholeBound(std::string_view alternative) {
  return {kMaxResponseBytes,
          ResourceExhausted(absl::StrCat("the response exceeds ", kMaxResponseBytes, " bytes; ",
                                         std::string(alternative), " has no such bound"),
                            "RESPONSE_TOO_LARGE")};
}

}  // namespace mea
