#include "engine/text/reply/call_sink.h"

#include <algorithm>

namespace mea {

void ReplyDelta::Append(ReplyDelta next) {
  content += next.content;
  reasoning += next.reasoning;
  for (ToolCallDelta& call : next.tool_calls) {
    // Calls come one after the other: only the last one can go on.
    if (!tool_calls.empty() && tool_calls.back().index == call.index) {
      tool_calls.back().arguments += call.arguments;
    } else {
      tool_calls.push_back(std::move(call));
    }
  }
}

}  // namespace mea

namespace mea::reply {
namespace {

// Steele, Lea, Flood 2014 ("SplitMix64"): different numbers give different numbers.
uint64_t MixBits(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

constexpr uint64_t kGolden = 0x9e3779b97f4a7c15;

}  // namespace

void CallSink::Begin(std::string name, std::string id) {
  progress_ = true;
  in_call_ = true;
  ++num_calls_;
  if (!reported()) return;
  if (id.empty()) id = NewId();
  delta_.tool_calls.push_back({num_calls_ - 1, std::move(id), std::move(name), ""});
}

void CallSink::Arguments(std::string_view piece) {
  progress_ = true;
  if (!reported()) return;
  auto& calls = delta_.tool_calls;
  if (calls.empty() || calls.back().index != num_calls_ - 1) calls.push_back({num_calls_ - 1});
  calls.back().arguments += piece;
}

void CallSink::End() {
  progress_ = true;
  in_call_ = false;
}

std::string CallSink::NewId() const {
  const auto index = static_cast<uint64_t>(num_calls_ - 1);
  const uint64_t first = MixBits(seed_ + index * kGolden);
  std::string id;
  if (style_ == IdStyle::kMistral) {
    // Mistral's templates accept no other ids. The step has no divisor in common with 62^9, so the
    // ids of a reply differ.
    constexpr std::string_view kLetters =
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    constexpr uint64_t kNumIds = 13537086546263552;  // 62^9
    constexpr uint64_t kStep = 8366379594239857;
    uint64_t number = (MixBits(seed_) % kNumIds + index * kStep % kNumIds) % kNumIds;
    for (int i = 0; i < 9; ++i) {
      id.push_back(kLetters[number % 62]);
      number /= 62;
    }
    return id;
  }
  const uint64_t second = MixBits(first + kGolden);
  id = "call_";
  for (int i = 0; i < 24; ++i) {
    const uint64_t bits = i < 16 ? first >> (60 - 4 * i) : second >> (60 - 4 * (i - 16));
    id.push_back("0123456789abcdef"[bits & 15]);
  }
  return id;
}

bool IsCallName(std::string_view name) {
  return !name.empty() && name.size() <= kMaxNameBytes &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  std::string_view("_-./:").find(c) != std::string_view::npos;
         });
}

std::string_view Trimmed(std::string_view text) {
  while (!text.empty() && IsBlank(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsBlank(text.back())) text.remove_suffix(1);
  return text;
}

void AppendJsonEscaped(std::string_view text, std::string* json) {
  for (const char c : text) {
    switch (c) {
      case '"':
        *json += "\\\"";
        break;
      case '\\':
        *json += "\\\\";
        break;
      case '\n':
        *json += "\\n";
        break;
      case '\r':
        *json += "\\r";
        break;
      case '\t':
        *json += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          *json += "\\u00";
          json->push_back("01"[c >> 4]);
          json->push_back("0123456789abcdef"[c & 15]);
        } else {
          json->push_back(c);
        }
    }
  }
}

}  // namespace mea::reply
