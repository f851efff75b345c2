#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/time/time.h"
#include "server/address.h"
#include "server/limits.h"
#include "server/log.h"
#include "server/traces/request_span.h"

namespace mea {

struct SpanExporterOptions {
  Address collector;
  std::string tls_roots;  // PEM of the authorities of its certificate; empty: no TLS
  NamedTexts headers;     // of each call
  NamedTexts resource;    // what sends the spans: service.name and the like

  size_t max_queued = kMaxQueuedTraces;
  size_t max_batch = kMaxTracesPerExport;
  absl::Duration period = kExportPeriod;    // the longest that a span waits for others
  absl::Duration timeout = kExportTimeout;  // of one call
  absl::Duration first_backoff = kFirstExportBackoff;
  absl::Duration last_timeout = kLastExportTimeout;  // of the destructor
};

// What became of spans since the start.
struct SpanCounts {
  int64_t exported = 0;
  int64_t dropped = 0;
};

// Sends spans to a collector, in batches, from a thread of its own. A collector that is slow, away
// or refuses them costs spans and one warning until it takes some again; whoever puts spans never
// waits. Thread-safe.
class SpanExporter {
 public:
  // `log` outlives it. Connects when there is something to send.
  SpanExporter(SpanExporterOptions options, Log& log);
  // Sends what waits, for last_timeout at most.
  ~SpanExporter();

  void Put(RequestSpan span);
  SpanCounts counts() const;

 private:
  struct State;

  const std::unique_ptr<State> state_;
};

}  // namespace mea
