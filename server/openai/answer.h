#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/mailbox.h"
#include "server/openai/json.h"

namespace mea::openai {

// The common fields of every answer.
struct AnswerInfo {
  std::string id;  // "chatcmpl-..."
  std::string model;
  int64_t created = 0;  // Unix seconds
  int num_prompts = 1;
  int n = 1;  // completions of each
};

// Turns the output of one request's prompts into the JSON of one kind of answer: events of a stream
// as they arrive, or one body at the end. Used by one thread at a time.
class Answer {
 public:
  explicit Answer(AnswerInfo info) : info_(std::move(info)) {}
  virtual ~Answer() = default;

  // For each prompt once, first.
  virtual void Add(int prompt, PromptOutput output) = 0;
  virtual void Add(int prompt, DeltaOutput delta) = 0;
  // The end of one completion; its status is OK.
  virtual void Add(int prompt, FinishOutput finish) = 0;
  // All completions have ended.
  virtual void End() = 0;
  // Ends a stream that has begun.
  virtual void Fail(const Json& /*error*/) {}

  // New output since the last call: bytes of the stream, or after End() the whole body.
  std::string TakeText() { return std::exchange(text_, {}); }
  int64_t num_bytes() const { return static_cast<int64_t>(text_.size()); }

  const AnswerInfo& info() const { return info_; }

 protected:
  // The number of a completion among all choices of the answer.
  int ChoiceOf(int prompt, int completion) const { return prompt * info_.n + completion; }
  int num_choices() const { return info_.num_prompts * info_.n; }

  void SendEvent(const Json& data) { text_ += "data: " + Dump(data) + "\n\n"; }
  void SendEvent(std::string_view name, const Json& data) {
    text_ += "event: " + std::string(name) + "\n";
    SendEvent(data);
  }

  const AnswerInfo info_;
  std::string text_;
};

// Tokens and cache memory of all prompts and completions of an answer.
class UsageSum {
 public:
  void AddPrompt(const PromptOutput& output) { prompt_tokens_ += output.num_tokens; }
  void AddFinish(int prompt, const FinishOutput& finish);
  int64_t completion_tokens() const { return completion_tokens_; }
  // In the form of OpenAI's chat and completions, plus the request's cache memory.
  Json ToJson() const;
  // In the form of OpenAI's responses.
  Json ToResponsesJson() const;

 private:
  Json KvCache() const;

  int64_t prompt_tokens_ = 0;
  int64_t completion_tokens_ = 0;
  std::vector<int64_t> cached_tokens_;  // by prompt
  int64_t kv_bytes_ = 0;
  int64_t kv_bytes_uncompressed_ = 0;
};

// A stream of OpenAI's chunks, for chats and completions: each with choices of one kind.
class ChunkStream : public Answer {
 public:
  // `object` is the kind; with `include_usage` a last chunk has the usage.
  ChunkStream(AnswerInfo info, const char* object, bool include_usage)
      : Answer(std::move(info)), object_(object), include_usage_(include_usage) {}

  void Add(int prompt, PromptOutput output) override;
  void End() override;
  void Fail(const Json& error) override { SendEvent({{"error", error}}); }
  using Answer::Add;

 protected:
  void SendChunk(Json choice);
  UsageSum usage_;

 private:
  Json Chunk(Json choices) const;

  const char* const object_;
  const bool include_usage_;
};

// "stop", "length" or "tool_calls".
std::string FinishReasonOf(const FinishOutput& finish);
// What stopped it other than the end of the sequence: a string, a token id, or null.
Json StopReasonOf(const FinishOutput& finish);

}  // namespace mea::openai
