#include "server/openai/error.h"

#include <algorithm>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/refusal.h"
#include "server/field_error.h"

namespace mea::openai {
namespace {

constexpr char kJson[] = "application/json";
constexpr char kResponseTooLarge[] = "RESPONSE_TOO_LARGE";

struct Kind {
  int http_code;
  const char* type;
  const char* code;  // null: none
};

Kind KindOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:
      return {400, "invalid_request_error", nullptr};
    case absl::StatusCode::kUnimplemented:
      return {400, "invalid_request_error", "unsupported"};
    case absl::StatusCode::kUnauthenticated:
      return {401, "authentication_error", "invalid_api_key"};
    case absl::StatusCode::kPermissionDenied:
      return {403, "permission_error", nullptr};
    case absl::StatusCode::kNotFound:
      return {404, "invalid_request_error", "model_not_found"};
    case absl::StatusCode::kAlreadyExists:
      return {409, "invalid_request_error", nullptr};
    case absl::StatusCode::kDeadlineExceeded:
      return {408, "timeout", "timeout"};
    case absl::StatusCode::kResourceExhausted:
      return {429, "rate_limit_error", "queue_full"};
    case absl::StatusCode::kUnavailable:
      return {503, "server_error", "unavailable"};
    case absl::StatusCode::kCancelled:
      return {499, "server_error", "cancelled"};
    default:
      return {500, "server_error", nullptr};
  }
}

// "sampling.top_p" -> "top_p", "chat.messages" -> "messages".
std::string ParamOf(const std::string& field, const ParamNames& names) {
  for (const auto& [path, param] : names) {
    if (field == path || absl::StartsWith(field, path + "[")) return param;
  }
  for (const char* group : {"sampling.", "stopping.", "response.", "chat.", "cache."}) {
    if (absl::StartsWith(field, group)) return field.substr(std::string(group).size());
  }
  for (const auto& [path, param] : names) {
    if (absl::StartsWith(field, path + ".")) return param;
  }
  return field;
}

Json Object(std::string_view message, const char* type, const Json& param, const Json& code) {
  return {{"message", std::string(message)}, {"type", type}, {"param", param}, {"code", code}};
}

}  // namespace

Json ErrorObject(const absl::Status& status, const ParamNames& names) {
  const Kind kind = KindOf(status);
  std::string message(status.message());
  Json param;
  Json code;
  if (kind.code != nullptr) code = kind.code;
  if (const auto reason = RefusalReason(status)) code = absl::AsciiStrToLower(*reason);
  if (const auto field = FieldOf(status)) {
    const std::string name = ParamOf(*field, names);
    param = name;
    // The message begins with the name of the field, which differs in this API.
    if (absl::StartsWith(message, *field)) message = name + message.substr(field->size());
  }
  // Errors of a template name the message, which is an item of another number in responses.
  for (const auto& [path, item] : names) {
    if (!absl::StartsWith(path, "messages[") || !absl::StartsWith(message, path)) continue;
    message = item + message.substr(path.size());
    param = item;
    break;
  }
  if (kind.http_code == 404) param = "model";
  return Object(message, kind.type, param, code);
}

HttpAnswer ErrorAnswer(const absl::Status& status, const ParamNames& names) {
  HttpAnswer answer{.code = KindOf(status).http_code,
                    .content_type = kJson,
                    .body = Dump({{"error", ErrorObject(status, names)}})};
  if (absl::IsUnauthenticated(status)) answer.headers.emplace_back("WWW-Authenticate", "Bearer");
  std::optional<absl::Duration> delay = RetryDelay(status);
  if (!delay && absl::IsUnavailable(status)) delay = absl::Seconds(1);
  if (delay) {
    const int64_t ms = std::max<int64_t>(absl::ToInt64Milliseconds(*delay), 1);
    answer.headers.emplace_back("Retry-After", absl::StrCat((ms + 999) / 1000));
    answer.headers.emplace_back("Retry-After-Ms", absl::StrCat(ms));
  }
  // OpenAI's clients retry after 408 and 429, at the full cost, unless they are told not to.
  if (absl::IsDeadlineExceeded(status) || RefusalReason(status) == kResponseTooLarge) {
    answer.headers.emplace_back("X-Should-Retry", "false");
  }
  return answer;
}

HttpAnswer ErrorAnswer(int http_code, std::string_view message) {
  const bool ours = http_code >= 500;
  return {.code = http_code,
          .content_type = kJson,
          .body = Dump({{"error", Object(message, ours ? "server_error" : "invalid_request_error",
                                         nullptr, nullptr)}})};
}

HttpAnswer JsonAnswer(const Json& json) { return {.content_type = kJson, .body = Dump(json)}; }

}  // namespace mea::openai
