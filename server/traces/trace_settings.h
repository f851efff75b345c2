#pragma once

#include <functional>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "server/traces/sampler.h"
#include "server/traces/span_exporter.h"

namespace mea {

struct TraceSettings {
  SpanExporterOptions exporter;
  TraceSampler sampler;
};

// The value of a variable; empty if it is not set, which OpenTelemetry counts as the same.
using Environment = std::function<std::string(const char* name)>;

// From --otlp-traces, a URL or "off", or empty: then from OpenTelemetry's variables, which also say
// what else there is to say (docs/operating.md lists them). Absent: nothing is traced.
// INVALID_ARGUMENT names the flag or variable; a status may name a file that cannot be read.
absl::StatusOr<std::optional<TraceSettings>> ReadTraceSettings(const std::string& flag,
                                                               const Environment& environment);

}  // namespace mea
