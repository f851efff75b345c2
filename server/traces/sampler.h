#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "server/trace_context.h"

namespace mea {

// Which requests are traced.
struct TraceSampler {
  bool follows_caller = true;  // as the caller says in `traceparent`, where it does
  double ratio = 1;            // of all others

  // `trace_id` has 32 hexadecimal digits. Equal ids are decided alike, by other programs as well.
  bool Takes(const TraceContext& caller, std::string_view trace_id) const;
};

// From OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG; empty: as by default. INVALID_ARGUMENT
// names the variable.
absl::StatusOr<TraceSampler> ParseTraceSampler(const std::string& name, const std::string& arg);

}  // namespace mea
