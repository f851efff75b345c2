#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace mea {

using NamedTexts = std::vector<std::pair<std::string, std::string>>;

struct SpanAttribute {
  std::string_view name;  // a constant of ours
  std::variant<std::string, int64_t, double> value;
};

// A part of a request's time, a span below the request's own.
struct SpanPhase {
  std::string_view name;  // a constant of ours
  absl::Time start;
  absl::Time end;
};

// A request as a collector is told of it. Texts are UTF-8; times are of the wall clock.
struct RequestSpan {
  std::string trace_id;   // 32 hexadecimal digits
  std::string parent_id;  // 16 of them, the caller's span; empty: none
  std::string trace_state;
  absl::Time start;
  absl::Time end;
  std::vector<SpanPhase> phases;
  std::vector<SpanAttribute> attributes;
  absl::Status status;

  int num_spans() const { return 1 + static_cast<int>(phases.size()); }
};

}  // namespace mea
