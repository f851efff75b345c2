#include "server/openai/routes.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/build_info.h"
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

Route Generating(Serving& serving, std::string path, GenerationCall::Reader read,
                 std::string id_prefix) {
  return {"POST", std::move(path), [&serving, read, id_prefix](Exchange exchange) {
            auto call =
                std::make_shared<GenerationCall>(serving, std::move(exchange), read, id_prefix);
            call->Begin();
            return std::shared_ptr<HttpCall>(std::move(call));
          }};
}

Route OnTextWorker(Serving& serving, std::string path, TextAnswer answer) {
  return {"POST", std::move(path), [&serving, answer](Exchange exchange) {
            return AnswerOnTextWorker(serving, std::move(exchange), answer);
          }};
}

HttpAnswer Health(const Serving& serving) {
  const ServingState state = serving.readiness.state();
  const std::string name(ServingStateName(state));
  if (state == ServingState::kServing) return JsonAnswer({{"status", "ok"}});
  return ErrorAnswer(absl::UnavailableError(absl::StrCat("the server is ", name)));
}

}  // namespace

std::vector<Route> Routes(Serving& serving) {
  const auto health = [&serving](const HttpRequest&) { return Health(serving); };
  return {Generating(serving, "/v1/chat/completions", ReadChatCompletion, "chatcmpl-"),
          Generating(serving, "/v1/completions", ReadCompletion, "cmpl-"),
          Generating(serving, "/v1/responses", ReadResponse, "resp_"),
          At("GET", "/v1/models", [&serving](const HttpRequest&) { return ListModels(serving); }),
          At("GET", "/v1/models/*",
             [&serving](const HttpRequest& request) { return RetrieveModel(request, serving); }),
          OnTextWorker(serving, "/tokenize", Tokenize),
          OnTextWorker(serving, "/detokenize", Detokenize),
          At("GET", "/tokenizer_info",
             [&serving](const HttpRequest&) { return TokenizerInfo(serving); }),
          At("GET", "/health", health),
          At("GET", "/ping", health),
          At("POST", "/ping", health),
          At("GET", "/version",
             [](const HttpRequest&) {
               return JsonAnswer({{"version", Version()}, {"build", Build()}});
             }),
          At("GET", "/metrics",
             [&serving](const HttpRequest&) {
               return HttpAnswer{.content_type = kMetricsContentType,
                                 .body = serving.metrics.Text(serving.engine)};
             }),
          At("GET", "/openapi.json", [](const HttpRequest&) {
            return HttpAnswer{.content_type = "application/json",
                              .body = std::string(OpenApiText())};
          })};
}

}  // namespace mea::openai
