#include "server/traces/sampler.h"

#include <charconv>
#include <cmath>
#include <cstdint>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace mea {

bool TraceSampler::Takes(const TraceContext& caller, std::string_view trace_id) const {
  if (follows_caller && !caller.trace_id.empty()) return caller.sampled;
  if (ratio >= 1) return true;
  // As OpenTelemetry's libraries have it: 63 bits of the id's second half, below the ratio.
  uint64_t bits = 0;
  std::from_chars(trace_id.data() + 16, trace_id.data() + 32, bits, 16);
  return static_cast<double>(bits >> 1) < ratio * std::ldexp(1.0, 63);
}

absl::StatusOr<TraceSampler> ParseTraceSampler(const std::string& name, const std::string& arg) {
  TraceSampler sampler;
  absl::string_view kind = name;
  sampler.follows_caller = kind.empty() || absl::ConsumePrefix(&kind, "parentbased_");
  if (kind.empty() || kind == "always_on") return sampler;
  if (kind == "always_off") {
    sampler.ratio = 0;
    return sampler;
  }
  if (kind != "traceidratio") {
    return absl::InvalidArgumentError(
        absl::StrCat("OTEL_TRACES_SAMPLER '", name,
                     "' is not always_on, always_off or traceidratio, or one of them after "
                     "parentbased_"));
  }
  if (!arg.empty() &&
      (!absl::SimpleAtod(arg, &sampler.ratio) || !(sampler.ratio >= 0 && sampler.ratio <= 1))) {
    return absl::InvalidArgumentError(
        absl::StrCat("OTEL_TRACES_SAMPLER_ARG '", arg, "' is not a number in 0..1"));
  }
  return sampler;
}

}  // namespace mea
