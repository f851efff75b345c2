#include "server/admin_http.h"

#include <civetweb.h>

#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/address.h"

namespace mea {
namespace {

constexpr char kNumThreads[] = "2";
constexpr char kTimeoutMs[] = "5000";        // of a request to arrive, and of an answer to be read
constexpr char kMaxRequestBytes[] = "8192";  // of the request line and headers

void Reply(mg_connection* connection, const HttpAnswer& answer, bool with_body) {
  const std::string head = absl::StrCat(
      "HTTP/1.1 ", answer.code, " ", mg_get_response_code_text(connection, answer.code),
      "\r\nContent-Type: ", answer.content_type, "\r\nContent-Length: ", answer.body.size(),
      "\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n");
  mg_write(connection, head.data(), head.size());
  if (with_body) mg_write(connection, answer.body.data(), answer.body.size());
}

int Silence(const mg_connection*, const char*) { return 1; }

}  // namespace

absl::StatusOr<std::unique_ptr<AdminHttp>> AdminHttp::Start(const std::string& text,
                                                            Handlers handlers) {
  absl::StatusOr<Address> address = ParseAddress(text);
  if (!address.ok()) return address.status();
  if (absl::Status status = CheckBindable(*address); !status.ok()) return status;

  const std::string where = address->ToString();
  const char* options[] = {"listening_ports",  where.c_str(),        "num_threads",
                           kNumThreads,        "request_timeout_ms", kTimeoutMs,
                           "max_request_size", kMaxRequestBytes,     nullptr};
  mg_callbacks callbacks{};
  callbacks.begin_request = &AdminHttp::Handle;
  callbacks.log_message = &Silence;
  auto http = std::unique_ptr<AdminHttp>(new AdminHttp(std::move(handlers)));
  http->context_ = mg_start(&callbacks, http.get(), options);
  if (http->context_ == nullptr) {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", where));
  }
  mg_server_port port{};
  mg_get_server_ports(http->context_, 1, &port);
  address->port = port.port;
  http->address_ = address->ToString();
  return http;
}

AdminHttp::~AdminHttp() {
  if (context_ != nullptr) mg_stop(context_);
}

int AdminHttp::Handle(mg_connection* connection) {
  const mg_request_info& request = *mg_get_request_info(connection);
  const auto* self = static_cast<const AdminHttp*>(request.user_data);
  const std::string_view method = request.request_method;
  const auto handler = self->handlers_.find(request.local_uri);
  if (method != "GET" && method != "HEAD") {
    Reply(connection, {.code = 405, .body = "only GET and HEAD\n"}, true);
  } else if (handler == self->handlers_.end()) {
    Reply(connection, {.code = 404, .body = "there is /, /health and /metrics\n"}, method == "GET");
  } else {
    Reply(connection, handler->second(), method == "GET");
  }
  return 1;  // answered
}

}  // namespace mea
