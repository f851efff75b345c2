#pragma once

#include <string>
#include <string_view>

namespace mea {

// The caller's place in a trace, from the headers or metadata `traceparent` and `tracestate`, as
// https://www.w3.org/TR/trace-context/ has it:
//   00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
struct TraceContext {
  std::string trace_id;   // 32 hexadecimal digits; empty: the caller traces nothing
  std::string parent_id;  // 16 of them: the caller's span
  bool sampled = false;   // the caller records the trace
  std::string state;      // for tools of tracing; empty: none
};

// Empty if `traceparent` is malformed. A `tracestate` that is not printable ASCII, or longer than
// kMaxTraceStateBytes, counts as none.
TraceContext ReadTraceContext(std::string_view traceparent, std::string_view tracestate);

// A client's name for its request, from the header or metadata `x-request-id`: sent back and
// logged, and not used otherwise, since a client that retries sends the same. Empty if it is not
// printable ASCII or longer than kMaxRequestIdLabelBytes.
std::string RequestLabel(std::string_view x_request_id);

}  // namespace mea
