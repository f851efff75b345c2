#include "engine/text/reply/harmony.h"

#include <algorithm>

namespace mea::reply {
namespace {

constexpr std::string_view kMessageMark = "<|message|>";
constexpr std::string_view kChannelMark = "<|channel|>";
constexpr std::string_view kStartMark = "<|start|>";
// End a body; the last two begin the next header.
constexpr std::string_view kBodyEnds[] = {"<|end|>", "<|call|>", "<|return|>", kStartMark,
                                          kChannelMark};
// The beginning of a header.
constexpr std::string_view kHeaderBegins[] = {kChannelMark, kStartMark, " to=", "to="};
constexpr size_t kMaxHarmonyHeader = 1024;

bool MayBeHeader(std::string_view text) {
  return std::any_of(
      std::begin(kHeaderBegins), std::end(kHeaderBegins),
      [&](std::string_view begin) { return begin.starts_with(text) || text.starts_with(begin); });
}

// What follows `key` in a header, up to a blank or the next mark.
std::string_view WordBehind(std::string_view header, std::string_view key) {
  const size_t at = header.find(key);
  if (at == header.npos) return "";
  const std::string_view rest = header.substr(at + key.size());
  return rest.substr(0, rest.find_first_of(" \t\n<"));
}

}  // namespace

void HarmonyReader::Read(char c, CallSink& sink) {
  in_header_ ? ReadHeader(c, sink) : ReadBody(c, sink);
}

void HarmonyReader::ReadHeader(char c, CallSink& sink) {
  header_.push_back(c);
  if (header_ == "\n") header_.clear();  // between two messages
  if (header_.ends_with(kMessageMark)) {
    BeginBody(sink);
    return;
  }
  const bool fits = MayBeHeader(header_);
  if (fits && header_.size() <= kMaxHarmonyHeader) return;
  body_ = Body::kContent;
  in_header_ = false;
  const std::string text = std::exchange(header_, {});
  if (fits) {
    sink.delta().content += text;
  } else {
    for (const char byte : text) ReadBody(byte, sink);  // shorter than a mark
  }
}

void HarmonyReader::BeginBody(CallSink& sink) {
  const std::string header = std::exchange(header_, {});
  in_header_ = false;
  body_ = WordBehind(header, kChannelMark) == "analysis" ? Body::kReasoning : Body::kContent;
  std::string_view recipient = WordBehind(header, "to=");
  if (recipient.starts_with("functions.")) recipient.remove_prefix(10);
  if (!tools_enabled_ || recipient == "assistant" || recipient == "user" ||
      !IsCallName(recipient) || sink.num_calls() == kMaxCalls) {
    return;
  }
  body_ = Body::kCall;
  any_argument_ = false;
  sink.Begin(std::string(recipient));
}

void HarmonyReader::ReadBody(char c, CallSink& sink) {
  held_.push_back(c);
  while (!held_.empty()) {
    bool begins = false;
    for (const std::string_view end : kBodyEnds) {
      if (held_ == end) {
        EndBody(sink);
        in_header_ = true;
        if (end == kStartMark || end == kChannelMark) header_ = held_;
        held_.clear();
        return;
      }
      begins |= end.starts_with(held_);
    }
    if (begins) return;
    BodyByte(held_[0], sink);
    held_.erase(0, 1);
  }
}

void HarmonyReader::BodyByte(char c, CallSink& sink) {
  switch (body_) {
    case Body::kContent:
      sink.delta().content.push_back(c);
      return;
    case Body::kReasoning:
      sink.delta().reasoning.push_back(c);
      return;
    case Body::kCall:
      if (IsBlank(c)) {
        if (any_argument_ && blanks_.size() < kMaxHeldBytes) blanks_.push_back(c);
        return;
      }
      sink.Arguments(std::exchange(blanks_, {}) + c);
      any_argument_ = true;
      return;
  }
}

void HarmonyReader::EndBody(CallSink& sink) {
  if (body_ == Body::kCall) {
    if (!any_argument_) sink.Arguments("{}");
    sink.End();
  }
  blanks_.clear();
  body_ = Body::kContent;
}

void HarmonyReader::Finish(CallSink& sink) {
  for (const char c : std::exchange(held_, {})) BodyByte(c, sink);
  // A header that was cut off is dropped; anything else is text of the model.
  const bool is_header = std::any_of(std::begin(kHeaderBegins), std::end(kHeaderBegins),
                                     [&](auto begin) { return header_.starts_with(begin); });
  if (!is_header) sink.delta().content += header_;
  header_.clear();
  if (sink.in_call()) sink.End();
}

}  // namespace mea::reply
