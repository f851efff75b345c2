#include "server/openai/routes.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/build_info.h"
#include "server/http/answer.h"
#include "server/http_guard.h"
#include "server/openai/api_description.h"
#include "server/openai/error.h"
#include "server/openai/generation_call.h"
#include "server/openai/model_info.h"
#include "server/openai/text_calls.h"

namespace mea::openai {
namespace {

using Exchange = std::shared_ptr<HttpExchange>;
using Route = HttpServer::Route;

// A path that answers at once.
Route At(std::string method, std::string path,
         std::function<HttpAnswer(const HttpRequest&)> answer) {
  return {std::move(method), std::move(path), [answer = std::move(answer)](Exchange exchange) {
            exchange->Send(answer(exchange->request()));
            return std::shared_ptr<HttpCall>();
          }};
}

// A body is read as JSON if it says so, says nothing, or says that it is a form, which is the
// default of curl -d.
std::optional<HttpAnswer> RefusalOfBody(const HttpRequest& head) {
  std::string type(head.Header("content-type"));
  type = absl::AsciiStrToLower(absl::StripAsciiWhitespace(type.substr(0, type.find(';'))));
  const bool is_json = type.empty() || type == "application/json" ||
                       type == "application/x-www-form-urlencoded" || absl::EndsWith(type, "+json");
  if (!is_json) {
    return ErrorAnswer(415, absl::StrCat("Content-Type '", Printable(type),
                                         "' is not served; send JSON as application/json"));
  }
  const std::string coding(head.Header("content-encoding"));
  if (!coding.empty() && !absl::EqualsIgnoreCase(coding, "identity")) {
    return ErrorAnswer(415, absl::StrCat("Content-Encoding '", Printable(coding),
                                         "' is not served; send the body as it is"));
  }
  return std::nullopt;
}

Route Generating(Serving& serving, std::string path, GenerationCall::Reader read,
                 std::string id_prefix) {
  return {"POST", std::move(path),
          [&serving, read, id_prefix](Exchange exchange) {
            auto call =
                std::make_shared<GenerationCall>(serving, std::move(exchange), read, id_prefix);
            call->Begin();
            return std::shared_ptr<HttpCall>(std::move(call));
          },
          RefusalOfBody};
}

Route OnTextWorker(Serving& serving, std::string path, TextAnswer answer) {
  return {"POST", std::move(path),
          [&serving, answer](Exchange exchange) {
            return AnswerOnTextWorker(serving, std::move(exchange), answer);
          },
          RefusalOfBody};
}

HttpAnswer Health(const Serving& serving) {
  const ServingState state = serving.readiness.state();
  const std::string name(ServingStateName(state));
  if (state == ServingState::kServing) return JsonAnswer({{"status", "ok"}});
  return ErrorAnswer(absl::UnavailableError(absl::StrCat("the server is ", name)));
}

}  // namespace

std::vector<Route> Routes(Serving& serving, bool open_metrics) {
  const auto health = [&serving](const HttpRequest&) { return Health(serving); };
  const auto metrics = [&serving](const HttpRequest&) {
    return HttpAnswer{.content_type = kMetricsContentType, .body = serving.MetricsText()};
  };
  std::vector<Route> routes = {At("GET", "/health", health), At("GET", "/ping", health),
                               At("POST", "/ping", health)};
  const auto add = [&](std::optional<Right> right, Route route) {
    routes.push_back(Guard(serving.access, right, std::move(route)));
  };
  add(Right::kInference,
      Generating(serving, "/v1/chat/completions", ReadChatCompletion, "chatcmpl-"));
  add(Right::kInference, Generating(serving, "/v1/completions", ReadCompletion, "cmpl-"));
  add(Right::kInference, Generating(serving, "/v1/responses", ReadResponse, "resp_"));
  add(Right::kInference, OnTextWorker(serving, "/tokenize", Tokenize));
  add(Right::kInference, OnTextWorker(serving, "/detokenize", Detokenize));
  // Any key may ask what is served.
  const auto any = std::nullopt;
  add(any, At("GET", "/v1/models", [&serving](const HttpRequest&) { return ListModels(serving); }));
  add(any, At("GET", "/v1/models/*",
              [&serving](const HttpRequest& request) { return RetrieveModel(request, serving); }));
  add(any, At("GET", "/tokenizer_info",
              [&serving](const HttpRequest&) { return TokenizerInfo(serving); }));
  add(any, At("GET", "/version", [](const HttpRequest&) {
        return JsonAnswer({{"version", Version()}, {"build", Build()}});
      }));
  const std::string description = ApiDescription(serving.access->has_keys(), open_metrics);
  add(any, At("GET", "/openapi.json", [description](const HttpRequest&) {
        return HttpAnswer{.content_type = "application/json", .body = description};
      }));
  if (open_metrics) {
    routes.push_back(At("GET", "/metrics", metrics));
  } else {
    add(Right::kMetrics, At("GET", "/metrics", metrics));
  }
  return routes;
}

}  // namespace mea::openai
