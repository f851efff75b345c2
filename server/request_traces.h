#pragma once

#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/generation_spec.h"
#include "server/mailbox.h"
#include "server/request_log.h"
#include "server/traces/sampler.h"
#include "server/traces/span_exporter.h"

namespace mea {

// What a collector of traces is told of a request: the same as the log, and its parameters. Every
// request is told once, except those without a key, which anyone can send. Thread-safe.
class RequestTraces {
 public:
  // Null: nothing is traced. `exporter` outlives it.
  RequestTraces(SpanExporter* exporter, const TraceSampler& sampler, std::string model_name)
      : exporter_(exporter), sampler_(sampler), model_name_(std::move(model_name)) {}

  void Finished(const GenerationSpec& spec, const FinishOutput& finish, const RequestTimes& times);
  // The engine never got it.
  void Refused(const RequestTag& tag, const absl::Status& status, absl::Time arrival);

 private:
  // Absent: the request is not traced.
  std::optional<RequestSpan> Begin(const TraceContext& caller, const std::string& id,
                                   absl::Time arrival, absl::Time end) const;

  SpanExporter* const exporter_;
  const TraceSampler sampler_;
  const std::string model_name_;
};

}  // namespace mea
