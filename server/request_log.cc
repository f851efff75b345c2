#include "server/request_log.h"

#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "engine/clock.h"
#include "server/field_error.h"
#include "server/limits.h"
#include "server/proto_convert.h"

namespace mea {
namespace {

std::vector<LogField> FieldsOf(const RequestTag& tag) {
  std::vector<LogField> fields = {{"id", tag.id}};
  if (!tag.trace.trace_id.empty()) fields.push_back({"trace_id", tag.trace.trace_id});
  if (!tag.label.empty()) fields.push_back({"label", tag.label});
  return fields;
}

std::vector<LogField> FieldsOf(const GenerationSpec& spec) {
  return FieldsOf({.id = spec.request.id, .trace = spec.trace, .label = spec.label});
}

std::string CodeName(const absl::Status& status) { return absl::StatusCodeToString(status.code()); }

// Errors about fields with free text of the client may quote it without saying so.
bool MayQuote(const absl::Status& status, const std::string& field) {
  return Quotes(status) || absl::StartsWith(field, "chat") ||
         absl::StartsWith(field, "structured_output");
}

void AppendStatus(const absl::Status& status, std::vector<LogField>& fields) {
  fields.push_back({"status", CodeName(status)});
  if (status.ok()) return;
  const FailureText told = ToldOf(status);
  if (told.field.empty()) {
    fields.push_back({"message", told.message});
  } else {
    fields.push_back({"field", told.field});
  }
}

bool IsOverload(const absl::Status& status) {
  return absl::IsResourceExhausted(status) || absl::IsUnavailable(status);
}

}  // namespace

FailureText ToldOf(const absl::Status& status) {
  if (const auto field = FieldOf(status); field && MayQuote(status, *field))
    return {.field = *field};
  return {.message = std::string(status.message())};
}

void RequestLog::Accepted(const GenerationSpec& spec) {
  if (!log_.enabled(LogLevel::kDebug)) return;
  const Request& request = spec.request;
  std::vector<LogField> fields = FieldsOf(spec);
  fields.push_back({"prompt_tokens", std::ssize(request.prompt)});
  fields.push_back({"max_tokens", request.stopping.max_tokens});
  fields.push_back({"priority", request.priority});
  log_.Write(LogLevel::kDebug, "request accepted", fields);
}

void RequestLog::Scheduled(const GenerationSpec& spec, absl::Duration queue) {
  if (!log_.enabled(LogLevel::kTrace)) return;
  std::vector<LogField> fields = FieldsOf(spec);
  fields.push_back({"queue_ms", queue});
  log_.Write(LogLevel::kTrace, "request scheduled", fields);
}

void RequestLog::FirstToken(const GenerationSpec& spec, absl::Duration first_token) {
  if (!log_.enabled(LogLevel::kTrace)) return;
  std::vector<LogField> fields = FieldsOf(spec);
  fields.push_back({"ttft_ms", first_token});
  log_.Write(LogLevel::kTrace, "request first token", fields);
}

void RequestLog::Finished(const GenerationSpec& spec, const FinishOutput& finish,
                          const RequestTimes& times) {
  const LogLevel level = absl::IsInternal(finish.status) ? LogLevel::kError : LogLevel::kInfo;
  if (!log_.enabled(level)) return;
  std::vector<LogField> fields = FieldsOf(spec);
  AppendStatus(finish.status, fields);
  if (finish.status.ok()) fields.push_back({"reason", FinishReasonName(finish.reason)});
  fields.push_back({"prompt_tokens", finish.usage.prompt_tokens});
  fields.push_back({"completion_tokens", finish.usage.completion_tokens});
  if (times.queue) fields.push_back({"queue_ms", *times.queue});
  if (times.first_token) fields.push_back({"ttft_ms", *times.first_token});
  fields.push_back({"total_ms", times.total});
  fields.push_back({"kv_bytes", finish.usage.kv_bytes});
  log_.Write(level, "request finished", fields);
}

void RequestLog::Refused(const RequestTag& tag, const absl::Status& status) {
  std::vector<LogField> fields = FieldsOf(tag);
  AppendStatus(status, fields);
  // Anyone can send calls without a key, so these are not logged at level info.
  LogLevel level = absl::IsUnauthenticated(status) ? LogLevel::kDebug : LogLevel::kInfo;
  if (IsOverload(status)) {
    absl::MutexLock lock(&mu_);
    ++unwarned_;
    level = LogLevel::kDebug;
    if (const absl::Time now = Now(); now >= next_warning_) {
      level = LogLevel::kWarning;
      next_warning_ = now + kOverloadLogPeriod;
      fields.push_back({"refused", std::exchange(unwarned_, 0)});
    }
  }
  log_.Write(level, "request refused", fields);
}

}  // namespace mea
