#include "server/page/page.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/access/api_key.h"
#include "server/http_guard.h"
#include "server/openai/error.h"
#include "server/page/status_json.h"

namespace mea {

std::string_view PageText();  // page_text.cc.in

namespace {

std::string Digest(std::string_view text) {
  const Sha256 hash = HashOf(text);
  return std::string(reinterpret_cast<const char*>(hash.data()), hash.size());
}

// The text of the document's only element `name`.
std::string_view Inside(std::string_view document, std::string_view name) {
  const std::string open = absl::StrCat("<", std::string(name));
  const std::string close = absl::StrCat("</", std::string(name), ">");
  const size_t begin = document.find('>', document.find(open)) + 1;
  return document.substr(begin, document.find(close, begin) - begin);
}

std::string Source(std::string_view text) {
  return absl::StrCat("'sha256-", absl::Base64Escape(Digest(text)), "'");
}

HttpAnswer Protected(HttpAnswer answer) {
  answer.headers.emplace_back("X-Content-Type-Options", "nosniff");
  answer.headers.emplace_back("Referrer-Policy", "no-referrer");
  return answer;
}

HttpServer::Route At(std::string path, std::function<HttpAnswer(const HttpRequest&)> answer) {
  return {"GET", std::move(path), [answer = std::move(answer)](auto exchange) {
            exchange->Send(Protected(answer(exchange->request())));
            return nullptr;
          }};
}

// "after=N" of a query; 0 without it.
int64_t AfterOf(absl::string_view query) {
  int64_t after = 0;
  if (!absl::ConsumePrefix(&query, "after=") || !absl::SimpleAtoi(query, &after)) return 0;
  return after;
}

}  // namespace

std::string ContentPolicy(std::string_view document) {
  return absl::StrCat("default-src 'none'; script-src ", Source(Inside(document, "script")),
                      "; style-src ", Source(Inside(document, "style")),
                      "; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
                      "frame-ancestors 'none'");
}

std::vector<HttpServer::Route> PageRoutes(Serving& serving, const LoadHistory& history,
                                          bool has_api) {
  const std::string etag = absl::StrCat("\"", absl::BytesToHexString(Digest(PageText())), "\"");
  const auto page = [etag, policy = ContentPolicy(PageText())](const HttpRequest& request) {
    HttpAnswer answer{
        .content_type = "text/html; charset=utf-8",
        .headers = {
            {"Cache-Control", "no-cache"}, {"ETag", etag}, {"Content-Security-Policy", policy}}};
    if (request.Header("if-none-match") == etag) {
      answer.code = 304;
    } else {
      answer.body = PageText();
    }
    return answer;
  };
  const auto status = [&serving, &history, has_api](const HttpRequest& request) {
    openai::Json json = StatusJson(serving, history, AfterOf(request.query));
    json["server"]["has_api"] = has_api;
    HttpAnswer answer = openai::JsonAnswer(json);
    answer.headers.emplace_back("Cache-Control", "no-store");
    return answer;
  };
  return {At("/", page), Guard(serving.access, Right::kMetrics, At("/status.json", status))};
}

}  // namespace mea
