#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "engine/clock.h"
#include "engine/engine.h"
#include "engine/grammar/grammar_compiler.h"
#include "engine/text/chat/chat_template.h"
#include "engine/text/reply/reply_format.h"
#include "engine/text/tokenizer.h"
#include "server/access/access.h"
#include "server/in_flight.h"
#include "server/kv_events/kv_events.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/open_calls.h"
#include "server/readiness.h"
#include "server/request_log.h"
#include "server/request_traces.h"
#include "server/reset_guard.h"
#include "server/text_budget.h"
#include "server/text_worker.h"

namespace mea {

// What every call needs. Owned by Server; outlives all calls. Each part is thread-safe.
struct Serving {
  std::string model_name;
  Engine& engine;
  const Tokenizer& tokenizer;
  Metrics& metrics;
  Log& log;
  TextWorkers& workers;
  TextWorkers& compilers;               // of grammars
  const ChatTemplate* chat = nullptr;   // null: the model has none
  ReplyFormat reply_format;             // how it writes tool calls and reasoning
  std::vector<int32_t> reply_markers;   // special tokens that its text must show for this
  GrammarCompiler* grammars = nullptr;  // null: no structured output
  const std::shared_ptr<Access> access = std::make_shared<Access>();
  SpanExporter* spans = nullptr;  // null: no request is traced
  TraceSampler trace_sampler;
  RequestLog request_log{log};
  RequestTraces request_traces{spans, trace_sampler, model_name};
  Readiness readiness;
  TextBudget text_budget;
  ResetGuard resets;
  InFlight requests;
  OpenCalls open_calls;  // of gRPC, that it has not finished sending
  OpenCalls text_calls;  // whose answer a text worker makes: Tokenize and its kind
  KvEvents kv_events{engine};
  absl::Time start_time = Now();

  std::string MetricsText() const { return metrics.Text({engine, *access, log, grammars, spans}); }
};

}  // namespace mea
