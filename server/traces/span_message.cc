#include "server/traces/span_message.h"

#include <string>
#include <string_view>
#include <variant>

#include "absl/random/random.h"
#include "absl/strings/escaping.h"
#include "server/build_info.h"

namespace mea {
namespace {

namespace common = opentelemetry::proto::common::v1;
namespace trace = opentelemetry::proto::trace::v1;

constexpr std::string_view kRequestSpan = "llm_request";  // vLLM's name for it
constexpr uint32_t kSampled = 1;

// Never the invalid id of zeros alone.
std::string RandomSpanId() {
  thread_local absl::BitGen bits;
  const uint64_t id = absl::Uniform<uint64_t>(absl::IntervalClosed, bits, 1, ~uint64_t{0});
  return {reinterpret_cast<const char*>(&id), sizeof(id)};
}

void SetValue(common::AnyValue& to, const std::string& value) { to.set_string_value(value); }
void SetValue(common::AnyValue& to, int64_t value) { to.set_int_value(value); }
void SetValue(common::AnyValue& to, double value) { to.set_double_value(value); }

template <typename Message, typename Value>
void AddAttribute(Message& to, std::string_view name, const Value& value) {
  common::KeyValue& attribute = *to.add_attributes();
  attribute.set_key(name.data(), name.size());
  SetValue(*attribute.mutable_value(), value);
}

// The part that the spans of a request have in common.
trace::Span SpanOf(const RequestSpan& request, std::string_view name, absl::Time start,
                   absl::Time end) {
  trace::Span span;
  span.set_trace_id(absl::HexStringToBytes(request.trace_id));
  span.set_span_id(RandomSpanId());
  span.set_trace_state(request.trace_state);
  span.set_name(name.data(), name.size());
  span.set_start_time_unix_nano(absl::ToUnixNanos(start));
  span.set_end_time_unix_nano(absl::ToUnixNanos(end));
  span.set_flags(kSampled | trace::SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK);
  return span;
}

void SetStatus(const absl::Status& status, trace::Span& span) {
  if (status.ok()) return;
  AddAttribute(span, "error.type", absl::StatusCodeToString(status.code()));
  if (absl::IsCancelled(status)) return;  // as its client wished
  span.mutable_status()->set_code(trace::Status::STATUS_CODE_ERROR);
  span.mutable_status()->set_message(std::string(status.message()));
}

void AddSpans(const RequestSpan& request, trace::ScopeSpans& scope) {
  trace::Span& span = *scope.add_spans();
  span = SpanOf(request, kRequestSpan, request.start, request.end);
  span.set_kind(trace::Span::SPAN_KIND_SERVER);
  if (!request.parent_id.empty()) {
    span.set_parent_span_id(absl::HexStringToBytes(request.parent_id));
    span.set_flags(span.flags() | trace::SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK);
  }
  for (const SpanAttribute& attribute : request.attributes) {
    std::visit([&](const auto& value) { AddAttribute(span, attribute.name, value); },
               attribute.value);
  }
  SetStatus(request.status, span);
  const std::string own_id = span.span_id();
  for (const SpanPhase& phase : request.phases) {
    trace::Span& part = *scope.add_spans();
    part = SpanOf(request, phase.name, phase.start, phase.end);
    part.set_kind(trace::Span::SPAN_KIND_INTERNAL);
    part.set_parent_span_id(own_id);
  }
}

}  // namespace

trace::ResourceSpans ToMessage(const std::vector<RequestSpan>& requests,
                               const NamedTexts& resource) {
  trace::ResourceSpans message;
  for (const auto& [name, value] : resource) {
    AddAttribute(*message.mutable_resource(), name, value);
  }
  trace::ScopeSpans& scope = *message.add_scope_spans();
  scope.mutable_scope()->set_name("mea");
  scope.mutable_scope()->set_version(Version());
  for (const RequestSpan& request : requests) AddSpans(request, scope);
  return message;
}

}  // namespace mea
