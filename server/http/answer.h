#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "server/http/http_server.h"

namespace mea {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

// How a client finds the end of an answer.
enum class HttpFraming {
  kLength,   // Content-Length
  kChunked,  // the last chunk
  kClose,    // the connection's end: a stream to an HTTP/1.0 client
};

// Status line and headers, with the empty line. `connection` is the value of the header Connection;
// empty: none. Names and values that would break the head are left out.
std::string HttpHead(const HttpAnswer& answer, HttpFraming framing, std::string_view connection,
                     std::string_view server_name, const HttpHeaders& further, absl::Time now);

// One chunk of a chunked body; `piece` is not empty.
void AppendChunk(std::string_view piece, std::string& out);
inline constexpr std::string_view kLastChunk = "0\r\n\r\n";

// Whether the request may proceed: it comes from no page in a browser, or from one of this server
// or of an allowed origin. Browsers send simple POSTs of any page without a preflight; other
// clients send no Origin.
bool IsFromAllowedPage(const HttpRequest& request, const std::vector<std::string>& origins);

// The headers that let a page of `origins` read the answer to `request`; none for other pages.
HttpHeaders CorsHeaders(const HttpRequest& request, const std::vector<std::string>& origins);

// The answer to OPTIONS on a path that has the methods `allow`; the answer to a browser that asks
// before a call from another origin, too.
HttpAnswer OptionsAnswer(const HttpRequest& request, const std::string& allow, bool cors);

// On one line, in printable ASCII, cut: what a client sent, for a message.
std::string Printable(std::string_view text);

}  // namespace mea
