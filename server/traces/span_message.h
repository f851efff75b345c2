#pragma once

#include <vector>

#include "opentelemetry/proto/trace/v1/trace.pb.h"
#include "server/traces/request_span.h"

namespace mea {

// Our types as OTLP's messages. `resource` says what sends them: service.name and the like. Span
// ids are drawn here.
opentelemetry::proto::trace::v1::ResourceSpans ToMessage(const std::vector<RequestSpan>& requests,
                                                         const NamedTexts& resource);

}  // namespace mea
