#include "server/http/answer.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace mea {
namespace {

constexpr size_t kMaxPrintedBytes = 128;
constexpr size_t kMaxRequestedHeadersBytes = 1024;
constexpr std::string_view kDefaultRequestHeaders = "authorization, content-type, x-request-id";

std::string_view ReasonPhrase(int code) {
  switch (code) {
    case 200:
      return "OK";
    case 201:
      return "Created";
    case 202:
      return "Accepted";
    case 204:
      return "No Content";
    case 301:
      return "Moved Permanently";
    case 302:
      return "Found";
    case 304:
      return "Not Modified";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 413:
      return "Payload Too Large";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 422:
      return "Unprocessable Entity";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 499:
      return "Client Closed Request";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    default:
      return "Status";
  }
}

bool IsPrintable(char c) { return c >= 0x20 && c < 0x7f; }

// No value may add a line to the head of an answer, wherever it comes from.
bool IsHeaderText(std::string_view text) {
  return std::none_of(text.begin(), text.end(), [](char c) {
    return c != '\t' && (static_cast<unsigned char>(c) < 0x20 || c == 0x7f);
  });
}

void AppendHeader(std::string_view name, std::string_view value, std::string& out) {
  if (name.empty() || !IsHeaderText(name) || !IsHeaderText(value)) return;
  absl::StrAppend(&out, absl::string_view(name.data(), name.size()), ": ",
                  absl::string_view(value.data(), value.size()), "\r\n");
}

// The date in HTTP's format, updated once a second.
const std::string& HttpDate(absl::Time now) {
  thread_local int64_t second = -1;
  thread_local std::string text;
  if (const int64_t present = absl::ToUnixSeconds(now); present != second) {
    second = present;
    text = absl::FormatTime("%a, %d %b %Y %H:%M:%S GMT", now, absl::UTCTimeZone());
  }
  return text;
}

}  // namespace

std::string HttpHead(const HttpAnswer& answer, HttpFraming framing, std::string_view connection,
                     std::string_view server_name, const HttpHeaders& further, absl::Time now) {
  std::string head;
  head.reserve(512);
  const std::string_view reason = ReasonPhrase(answer.code);
  absl::StrAppend(&head, "HTTP/1.1 ", answer.code, " ",
                  absl::string_view(reason.data(), reason.size()), "\r\n");
  AppendHeader("Date", HttpDate(now), head);
  AppendHeader("Server", server_name, head);
  const bool has_body = answer.code >= 200 && answer.code != 204 && answer.code != 304;
  if (has_body) {
    AppendHeader("Content-Type", answer.content_type, head);
    if (framing == HttpFraming::kChunked) AppendHeader("Transfer-Encoding", "chunked", head);
    if (framing == HttpFraming::kLength) {
      absl::StrAppend(&head, "Content-Length: ", answer.body.size(), "\r\n");
    }
  }
  if (!connection.empty()) AppendHeader("Connection", connection, head);
  for (const auto& [name, value] : answer.headers) AppendHeader(name, value, head);
  for (const auto& [name, value] : further) AppendHeader(name, value, head);
  head += "\r\n";
  return head;
}

void AppendChunk(std::string_view piece, std::string& out) {
  absl::StrAppend(&out, absl::Hex(piece.size()), "\r\n",
                  absl::string_view(piece.data(), piece.size()), "\r\n");
}

HttpHeaders CorsHeaders(const HttpRequest& request, const std::vector<std::string>& origins) {
  if (origins.empty()) return {};
  constexpr char kExposed[] = "X-Request-Id, Retry-After";
  if (std::find(origins.begin(), origins.end(), "*") != origins.end()) {
    return {{"Access-Control-Allow-Origin", "*"}, {"Access-Control-Expose-Headers", kExposed}};
  }
  // Caches must keep answers to different origins apart, also answers without permission.
  HttpHeaders headers = {{"Vary", "Origin"}};
  const std::string_view origin = request.Header("origin");
  if (!origin.empty() && std::find(origins.begin(), origins.end(), origin) != origins.end()) {
    headers.emplace_back("Access-Control-Allow-Origin", origin);
    headers.emplace_back("Access-Control-Expose-Headers", kExposed);
  }
  return headers;
}

bool IsFromAllowedPage(const HttpRequest& request, const std::vector<std::string>& origins) {
  const std::string_view origin = request.Header("origin");
  if (origin.empty() || request.method == "GET" || request.method == "HEAD") return true;
  const size_t host = origin.find("://");
  if (host != origin.npos && origin.substr(host + 3) == request.Header("host")) return true;
  return std::any_of(origins.begin(), origins.end(), [&](const std::string& allowed) {
    return allowed == "*" || allowed == origin;
  });
}

HttpAnswer OptionsAnswer(const HttpRequest& request, const std::string& allow, bool cors) {
  HttpAnswer answer{.code = 204, .headers = {{"Allow", allow}}};
  if (!cors || request.Header("access-control-request-method").empty()) return answer;
  std::string_view wanted = request.Header("access-control-request-headers");
  if (wanted.empty() || wanted.size() > kMaxRequestedHeadersBytes) wanted = kDefaultRequestHeaders;
  answer.headers.emplace_back("Access-Control-Allow-Methods", allow);
  answer.headers.emplace_back("Access-Control-Allow-Headers", wanted);
  answer.headers.emplace_back("Access-Control-Max-Age", "600");
  return answer;
}

std::string Printable(std::string_view text) {
  std::string printed(text.substr(0, kMaxPrintedBytes));
  std::replace_if(
      printed.begin(), printed.end(), [](char c) { return !IsPrintable(c); }, '?');
  if (text.size() > kMaxPrintedBytes) printed += "...";
  return printed;
}

std::string_view HttpRequest::Header(std::string_view lower_case_name) const {
  for (const auto& [name, value] : headers) {
    if (name == lower_case_name) return value;
  }
  return {};
}

}  // namespace mea
