#include "server/trace_context.h"

#include <algorithm>

#include "server/limits.h"

namespace mea {
namespace {

// version "-" trace-id "-" parent-id "-" flags
constexpr size_t kVersionDigits = 2;
constexpr size_t kTraceIdDigits = 32;
constexpr size_t kParentIdDigits = 16;
constexpr size_t kFlagsDigits = 2;

bool IsHex(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

// The flag `sampled` is the lowest bit.
bool IsOdd(char hex_digit) { return hex_digit % 2 == (hex_digit <= '9' ? 1 : 0); }

bool IsPrintable(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

bool IsZero(std::string_view text) { return text.find_first_not_of('0') == text.npos; }

// The next field with this many digits, and the "-" after it; empty if there is none.
std::string_view TakeField(std::string_view& rest, size_t digits) {
  const std::string_view field = rest.substr(0, digits);
  const bool ends = rest.size() == digits || (rest.size() > digits && rest[digits] == '-');
  if (!ends || !IsHex(field)) return {};
  rest.remove_prefix(std::min(rest.size(), digits + 1));
  return field;
}

}  // namespace

TraceContext ReadTraceContext(std::string_view traceparent, std::string_view tracestate) {
  std::string_view rest = traceparent;
  const std::string_view version = TakeField(rest, kVersionDigits);
  const std::string_view trace_id = TakeField(rest, kTraceIdDigits);
  const std::string_view parent_id = TakeField(rest, kParentIdDigits);
  const std::string_view flags = TakeField(rest, kFlagsDigits);
  if (version.empty() || trace_id.empty() || parent_id.empty() || flags.empty()) return {};
  if (version == "ff" || IsZero(trace_id) || IsZero(parent_id)) return {};
  // Later versions may add fields; the first version has only these four.
  constexpr size_t kLength = kVersionDigits + kTraceIdDigits + kParentIdDigits + kFlagsDigits + 3;
  if (version == "00" && traceparent.size() != kLength) return {};
  const bool has_state = tracestate.size() <= kMaxTraceStateBytes && IsPrintable(tracestate);
  return {.trace_id = std::string(trace_id),
          .parent_id = std::string(parent_id),
          .sampled = IsOdd(flags.back()),
          .state = has_state ? std::string(tracestate) : ""};
}

std::string RequestLabel(std::string_view x_request_id) {
  const bool is_label = x_request_id.size() <= kMaxRequestIdLabelBytes && IsPrintable(x_request_id);
  return is_label ? std::string(x_request_id) : "";
}

}  // namespace mea
