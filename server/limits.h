#pragma once

#include <cstdint>

#include "absl/time/time.h"
#include "engine/text/json_bounds.h"

namespace mea {

// Every bound of the server that is not an option. GetModelInfo shows those of a request.

inline constexpr int64_t kMaxRequestBytes = 8 << 20;    // one incoming gRPC message
inline constexpr int64_t kMaxMetadataBytes = 64 << 10;  // of one gRPC call
inline constexpr int64_t kMaxPromptBytes = 4 << 20;     // text of a prompt, or to tokenize
inline constexpr int64_t kMaxChatBytes = 4 << 20;       // messages, tools and documents of a chat
// The work that a text may cause in a tokenizer, in steps of about a byte: tens per byte, except
// for patterns that reread text. A second or two for the longest text.
inline constexpr int64_t kMaxStepsPerTextByte = 256;
inline constexpr int64_t kMaxStepsOfAnyText = 64 << 20;          // allowed for a text of any size
inline constexpr int64_t kMaxStructuredOutputBytes = 256 << 10;  // a schema or grammar
// One outgoing gRPC message: the default limit of gRPC's clients.
inline constexpr int64_t kMaxResponseBytes = 4 << 20;
// Output that a client leaves unread; a merged delta stays below kMaxResponseBytes.
inline constexpr int64_t kMaxUnreadBytes = 1 << 20;
inline constexpr int64_t kMaxEchoBytes = kMaxUnreadBytes / 2;  // of a prompt that is repeated

// Bytes of clients' messages that wait for a text worker or are with one, gRPC and HTTP together,
// and the part that large ones may take. One large text is worked on at a time.
inline constexpr int64_t kMaxTextBytes = 64 << 20;
inline constexpr int64_t kMaxLargeTextsBytes = 48 << 20;
inline constexpr int64_t kLargeTextBytes = 64 << 10;  // larger texts are large

inline constexpr int kMaxPendingEvents = 1 << 16;  // tokens between the engine and a text worker
inline constexpr int kMaxDeltaTokens = 256;  // that a text worker collects before it passes them on

inline constexpr JsonBounds kJsonBounds = {.max_depth = 128};  // of a client's JSON
inline constexpr int kMaxPromptsPerRequest = 256;         // of one completion request over HTTP
inline constexpr int64_t kMaxHttpAnswerBytes = 32 << 20;  // of a whole answer, all prompts together
// Bodies up to this size are parsed on the HTTP thread, longer ones by a text worker.
inline constexpr int64_t kMaxInlineBodyBytes = 32 << 10;

inline constexpr int kMaxRequestIdBytes = 128;
inline constexpr int kMaxQuotedNameBytes = 256;  // of a model that is not served, in the error
inline constexpr size_t kMaxRequestIdLabelBytes = 1024;  // of the header or metadata x-request-id
inline constexpr size_t kMaxTraceStateBytes = 512;       // of the header or metadata tracestate
inline constexpr int kMaxStopStrings = 16;
inline constexpr int kMaxStopStringBytes = 256;
inline constexpr int kMaxStopTokenIds = 64;
inline constexpr int kMaxLogitBias = 1024;
inline constexpr int kMaxCacheSaltBytes = 256;

inline constexpr int kNumTextWorkers = 3;
inline constexpr int kNumOutputWorkers = 1;  // of these: only for output
inline constexpr int kMaxTextJobs = 1024;    // prompts and texts that wait for a text worker

inline constexpr int kNumGrammarCompilers = 2;  // threads: a grammar may take seconds
inline constexpr int kMaxGrammarJobs = 256;     // requests that wait for one of them

inline constexpr int kMaxLogLines = 4096;      // that wait for the log's thread
inline constexpr int kMaxLogValueBytes = 256;  // of one value in a line
// The shortest time between warnings about refusals for lack of room.
inline constexpr absl::Duration kOverloadLogPeriod = absl::Seconds(10);

// Spans of requests on their way to a collector (--otlp-traces).
inline constexpr size_t kMaxQueuedTraces = 2048;    // requests that wait; more are dropped
inline constexpr size_t kMaxTracesPerExport = 128;  // of four spans at most
inline constexpr int kMaxSpanTextBytes = 256;       // of one attribute
inline constexpr int kMaxExportAttempts = 5;        // while the collector is UNAVAILABLE
inline constexpr absl::Duration kExportPeriod = absl::Seconds(5);
inline constexpr absl::Duration kExportTimeout = absl::Seconds(10);
inline constexpr absl::Duration kFirstExportBackoff = absl::Seconds(1);  // twice as long each time
inline constexpr absl::Duration kLastExportTimeout = absl::Seconds(1);   // at the end of the server

// The retry delay for a client whose text found no room; the engine computes its own.
inline constexpr absl::Duration kRetryDelay = absl::Seconds(1);
// The server checks its own ports at least this often; one that stays silent for this many
// port_timeouts will not recover.
inline constexpr absl::Duration kMaxPortPeriod = absl::Seconds(2);
inline constexpr int kPortTimeouts = 4;
// After a drain: for what clients have not read yet, and then for connections to close.
inline constexpr absl::Duration kFlushTimeout = absl::Seconds(2);
inline constexpr absl::Duration kCloseTimeout = absl::Milliseconds(100);

}  // namespace mea
