#pragma once

#include <string>
#include <string_view>

namespace mea {

// The trace id (32 hexadecimal digits) of the metadata `traceparent`, as
// https://www.w3.org/TR/trace-context/ has it:
//   00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
// Empty if it is malformed: then the call is not traced.
std::string TraceId(std::string_view traceparent);

// A client's name for its request, from the header or metadata `x-request-id`: sent back and
// logged, and not used otherwise, since a client that retries sends the same. Empty if it is not
// printable ASCII or longer than kMaxRequestIdLabelBytes.
std::string RequestLabel(std::string_view x_request_id);

}  // namespace mea
