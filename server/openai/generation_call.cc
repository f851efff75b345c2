#include "server/openai/generation_call.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/clock.h"
#include "kernels/status_macros.h"
#include "server/field_error.h"
#include "server/http/answer.h"
#include "server/limits.h"
#include "server/load_report.h"
#include "server/openai/id.h"
#include "server/openai/json_reader.h"
#include "server/proto_convert.h"
#include "server/status.h"
#include "server/trace_context.h"

namespace mea::openai {
namespace {

// Seconds from now, from the header that proxies and clients send; infinite without one.
absl::StatusOr<absl::Duration> TimeoutOf(const HttpRequest& request) {
  const std::string_view header = request.Header("x-request-timeout");
  if (header.empty()) return absl::InfiniteDuration();
  double seconds = 0;
  if (absl::SimpleAtod({header.data(), header.size()}, &seconds) && seconds > 0) {
    return absl::Seconds(seconds);  // a longer one counts as infinite
  }
  return FieldError("X-Request-Timeout",
                    absl::StrCat("is '", Printable(header), "', not a number of seconds above 0"));
}

}  // namespace

class GenerationCall::PromptListener final : public OutputListener {
 public:
  PromptListener(std::weak_ptr<GenerationCall> call, int prompt)
      : call_(std::move(call)), prompt_(prompt) {}
  void OnOutput() override {
    if (const auto call = call_.lock()) call->OnOutput(prompt_);
  }

 private:
  const std::weak_ptr<GenerationCall> call_;
  const int prompt_;
};

GenerationCall::GenerationCall(Serving& serving, std::shared_ptr<HttpExchange> exchange,
                               Reader read, const std::string& id_prefix)
    : serving_(serving),
      exchange_(std::move(exchange)),
      read_(read),
      id_(absl::StrCat(id_prefix, RandomHex24())) {}

void GenerationCall::Begin() {
  {
    auto key_call = serving_.access->Admit(exchange_->request().Header("authorization"));
    absl::MutexLock lock(&mu_);
    if (!key_call.ok()) return Refuse(key_call.status());
    key_call_ = *std::move(key_call);
  }
  const int64_t bytes = std::ssize(exchange_->request().body);
  absl::StatusOr<TextLease> text = serving_.text_budget.Take(bytes);
  absl::Status status = text.status();
  if (status.ok()) {
    text_ = *std::move(text);
    if (bytes <= kMaxInlineBodyBytes) return ReadAndStart();
    if (serving_.workers.Post([self = shared_from_this()] { self->ReadAndStart(); }, bytes)) return;
    status = ResourceExhausted(absl::StrCat("the queue of ", kMaxTextJobs, " texts is full"),
                               "TEXT_QUEUE_FULL", kRetryDelay);
  }
  absl::MutexLock lock(&mu_);
  Refuse(status);
}

void GenerationCall::Refuse(const absl::Status& status) {
  const RequestTag tag{id_, Trace(), Label()};
  serving_.request_log.Refused(tag, status);
  serving_.request_traces.Refused(tag, status, arrival_);
  Fail(status);
}

void GenerationCall::ReadAndStart() {
  const TextLease text = std::exchange(text_, {});
  {
    absl::MutexLock lock(&mu_);
    if (ended_) return;  // the client left while the body waited
  }
  absl::StatusOr<Json> body = ParseBody(exchange_->request().body);
  absl::StatusOr<ParsedRequest> parsed =
      body.ok() ? read_(*body, id_, serving_) : absl::StatusOr<ParsedRequest>(body.status());
  Generations started;
  absl::Status status = parsed.status();
  {
    absl::MutexLock lock(&mu_);
    if (ended_) return;  // the client has gone
    if (parsed.ok()) {
      parsed_ = *std::move(parsed);
      status = Start(text);
    }
    if (status.ok()) return;
    Refuse(status);
    started = generations_;
  }
  CancelAll(started);
}

// Starts all prompts or none.
absl::Status GenerationCall::Start(const TextLease& text) {
  MEA_ASSIGN_OR_RETURN(const absl::Duration timeout,
                       parsed_.timeout ? *parsed_.timeout : TimeoutOf(exchange_->request()));
  CallInfo call{.trace = Trace(), .label = Label(), .text = text};
  call.deadline = arrival_ + timeout;
  std::vector<GenerationSpec> specs;
  for (const v1::GenerateRequest& request : parsed_.requests) {
    call.request_id = request.request_id();
    MEA_ASSIGN_OR_RETURN(GenerationSpec spec, FromProto(request, call, serving_));
    if (parsed_.default_max_tokens) spec.max_new_tokens = parsed_.default_max_tokens;
    spec.key_call = key_call_;
    specs.push_back(std::move(spec));
  }
  key_call_.reset();
  for (GenerationSpec& spec : specs) {
    const int prompt = static_cast<int>(generations_.size());
    listeners_.push_back(std::make_shared<PromptListener>(weak_from_this(), prompt));
    auto generation =
        std::make_shared<Generation>(serving_, std::move(spec), Bound(), listeners_.back());
    MEA_RETURN_IF_ERROR(generation->Start());
    generations_.push_back(std::move(generation));
  }
  return absl::OkStatus();
}

OutputBound GenerationCall::Bound() const {
  if (parsed_.stream) {
    return {kMaxUnreadBytes,
            ResourceExhausted(absl::StrCat("the client left more than ", kMaxUnreadBytes,
                                           " bytes of output unread"),
                              "OUTPUT_UNREAD")};
  }
  const int64_t bytes =
      std::min<int64_t>(kMaxResponseBytes, kMaxHttpAnswerBytes / parsed_.requests.size());
  return {bytes, ResourceExhausted(absl::StrCat("the answer to a prompt exceeds ", bytes,
                                                " bytes; a stream has no such bound"),
                                   "RESPONSE_TOO_LARGE")};
}

void GenerationCall::OnOutput(int prompt) {
  Generations failed;
  {
    absl::MutexLock lock(&mu_);
    if (ended_ || prompt >= std::ssize(generations_)) return;
    // Unstreamed answers leave their output in the mailbox until it is complete.
    if (!parsed_.stream && !generations_[prompt]->mailbox().finished()) return;
    if (std::find(ready_.begin(), ready_.end(), prompt) == ready_.end()) ready_.push_back(prompt);
    Pump();
    failed = LeftRunning();
  }
  CancelAll(failed);
}

void GenerationCall::OnWritten() {
  Generations failed;
  {
    absl::MutexLock lock(&mu_);
    writing_ = false;
    if (ended_) return;
    Pump();
    failed = LeftRunning();
  }
  CancelAll(failed);
}

GenerationCall::Generations GenerationCall::LeftRunning() const {
  return ended_ && num_finished_ < std::ssize(generations_) ? generations_ : Generations();
}

void GenerationCall::CancelAll(const Generations& generations) {
  for (const auto& generation : generations) {
    generation->Cancel(absl::CancelledError("another prompt of the request failed"));
  }
}

void GenerationCall::OnGone() {
  Generations running;
  {
    absl::MutexLock lock(&mu_);
    if (std::exchange(ended_, true)) return;
    Count(absl::StatusCode::kCancelled, "");
    running = generations_;
  }
  for (const auto& generation : running) {
    generation->Cancel(absl::CancelledError("cancelled by the client"));
  }
}

void GenerationCall::Pump() {
  if (writing_) return;
  for (const int prompt : std::exchange(ready_, {})) {
    if (absl::Status status = Drain(prompt); !status.ok()) return Fail(status);
  }
  const bool all = num_finished_ == std::ssize(generations_);
  if (all) parsed_.answer->End();
  if (!parsed_.stream) {
    if (!all) return;
    HttpAnswer answer{.content_type = "application/json",
                      .body = parsed_.answer->TakeText(),
                      .headers = Headers()};
    Count(absl::StatusCode::kOk, finish_reason_);
    exchange_->Send(std::move(answer));
    return;
  }
  WriteText(parsed_.answer->TakeText());
  if (!all) return;
  Count(absl::StatusCode::kOk, finish_reason_);
  exchange_->End();
}

absl::Status GenerationCall::Drain(int prompt) {
  Mailbox& mailbox = generations_[prompt]->mailbox();
  while (std::optional<Output> output = mailbox.Take()) {
    if (const auto* finish = std::get_if<FinishOutput>(&*output)) {
      if (!finish->status.ok()) return finish->status;
      num_finished_ += finish->is_last;
      finish_reason_ = FinishReasonName(finish->reason);
    }
    std::visit([&](auto& o) { parsed_.answer->Add(prompt, std::move(o)); }, *output);
  }
  return absl::OkStatus();
}

void GenerationCall::WriteText(std::string text) {
  if (text.empty()) return;
  if (!std::exchange(begun_, true)) {
    HttpAnswer head{.content_type = "text/event-stream; charset=utf-8", .headers = Headers()};
    head.headers.emplace_back("Cache-Control", "no-cache");
    head.headers.emplace_back("X-Accel-Buffering", "no");
    exchange_->Begin(std::move(head));
  }
  writing_ = true;
  exchange_->Write(std::move(text));
}

void GenerationCall::Fail(const absl::Status& status) {
  key_call_.reset();  // before the client can send another request
  Count(status.code(), "");
  if (begun_) {
    parsed_.answer->Fail(ErrorObject(status, parsed_.names));
    WriteText(parsed_.answer->TakeText());
    exchange_->End();
    return;
  }
  HttpAnswer answer = ErrorAnswer(status, parsed_.names);
  for (auto& header : Headers()) answer.headers.push_back(std::move(header));
  exchange_->Send(std::move(answer));
}

void GenerationCall::Count(absl::StatusCode code, const std::string& finish_reason) {
  ended_ = true;
  serving_.metrics.CountRequest(code, finish_reason, Now() - arrival_);
}

TraceContext GenerationCall::Trace() const {
  const HttpRequest& request = exchange_->request();
  return ReadTraceContext(request.Header("traceparent"), request.Header("tracestate"));
}

std::string GenerationCall::Label() const {
  return RequestLabel(exchange_->request().Header("x-request-id"));
}

std::vector<std::pair<std::string, std::string>> GenerationCall::Headers() const {
  const std::string label = Label();
  std::vector<std::pair<std::string, std::string>> headers = {
      {"X-Request-Id", label.empty() ? id_ : label}};
  const std::string_view format = exchange_->request().Header(kLoadFormatHeader);
  if (auto report = HttpLoadReport(format, serving_)) headers.push_back(*std::move(report));
  return headers;
}

}  // namespace mea::openai
