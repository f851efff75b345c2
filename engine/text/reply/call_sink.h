#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mea {

// A piece of one call of a reply.
struct ToolCallDelta {
  int index = 0;          // of the call within the reply, from 0
  std::string id;         // set in the first piece of the call alone
  std::string name;       // likewise
  std::string arguments;  // the next bytes of the JSON text

  bool operator==(const ToolCallDelta&) const = default;
};

// The parsed content of a piece of a reply.
struct ReplyDelta {
  std::string content;
  std::string reasoning;
  std::vector<ToolCallDelta> tool_calls;

  bool empty() const { return content.empty() && reasoning.empty() && tool_calls.empty(); }
  // Appends a later delta; pieces of one call become one.
  void Append(ReplyDelta next);
};

namespace reply {

inline constexpr int kMaxCalls = 128;
// The most bytes that may wait for the rest of a call, or of one of its arguments.
inline constexpr size_t kMaxHeldBytes = size_t{1} << 20;
inline constexpr size_t kMaxNameBytes = 256;

// Receives what the readers of calls find. Counts the calls and gives them their ids. One thread.
class CallSink {
 public:
  enum class IdStyle { kOpenAi, kMistral };

  CallSink(IdStyle style, uint64_t seed, int max_reported)
      : style_(style), seed_(seed), max_reported_(max_reported) {}

  // A call begins; `id` is the model's own, if it wrote one. From here on the call cannot be
  // undone.
  void Begin(std::string name, std::string id = "");
  void Arguments(std::string_view piece);
  void End();

  bool in_call() const { return in_call_; }
  int num_calls() const { return num_calls_; }
  // Whether something arrived since the last query.
  bool TakeProgress() { return std::exchange(progress_, false); }

  ReplyDelta& delta() { return delta_; }
  ReplyDelta Take() { return std::exchange(delta_, {}); }

 private:
  std::string NewId() const;
  bool reported() const { return num_calls_ <= max_reported_; }

  IdStyle style_;
  uint64_t seed_;
  int max_reported_;  // further calls are read and dropped
  int num_calls_ = 0;
  bool in_call_ = false;
  bool progress_ = false;
  ReplyDelta delta_;
};

// A reader's verdict on one byte.
enum class CallStep {
  kMore,    // there is more to come
  kDone,    // the byte is the last one
  kEnded,   // the previous byte was the last one
  kBroken,  // this is no call, or no further one
};

// Reads one call, or a list of them, byte by byte after the marker that begins it.
class CallReader {
 public:
  virtual ~CallReader() = default;
  virtual CallStep Read(char c, CallSink& sink) = 0;
  // The reply ends here: passes on what is still held of a call that has begun.
  virtual void Finish(CallSink&) {}
};

inline bool IsBlank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// Letters, digits and "_-./:"; not empty and at most kMaxNameBytes long.
bool IsCallName(std::string_view name);

std::string_view Trimmed(std::string_view text);

// Appends `text`, escaped for a JSON string.
void AppendJsonEscaped(std::string_view text, std::string* json);

}  // namespace reply
}  // namespace mea
