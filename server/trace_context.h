#pragma once

#include <string>
#include <string_view>

namespace mea {

// The trace id (32 hexadecimal digits) of the metadata `traceparent`, as
// https://www.w3.org/TR/trace-context/ has it:
//   00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
// Empty where it is malformed: the caller then goes untraced.
std::string TraceId(std::string_view traceparent);

// What a client calls its request, in the header or metadata `x-request-id`: repeated to it and
// logged, and of no other use, since a client that tries again sends the same. Empty where it is
// none: not printable ASCII, or longer than kMaxRequestIdLabelBytes.
std::string RequestLabel(std::string_view x_request_id);

}  // namespace mea
