#include "engine/text/reply/reply_parser.h"

#include <bitset>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/text/reply/gemma_call.h"
#include "engine/text/reply/harmony.h"
#include "engine/text/reply/json_call.h"
#include "engine/text/reply/named_call.h"
#include "engine/text/reply/pythonic_call.h"
#include "engine/text/reply/shapes.h"
#include "engine/text/reply/xml_call.h"

namespace mea {
namespace reply {
namespace {

std::unique_ptr<CallReader> NewCallReader(ToolFormat format, std::string_view opener,
                                          const ParameterTypes* types) {
  switch (format) {
    case ToolFormat::kHermes:
      return std::make_unique<JsonCallReader>(JsonCallShape{});
    case ToolFormat::kLlama3Json:
      // A bare object may be an answer in JSON.
      return std::make_unique<JsonCallReader>(JsonCallShape{.known_keys_only = opener == "{"});
    case ToolFormat::kPythonic:
    case ToolFormat::kLfm2:
      return std::make_unique<PythonicCallReader>();
    case ToolFormat::kMistral:
    case ToolFormat::kMistralV11:
      return std::make_unique<MistralCallReader>();
    case ToolFormat::kDeepSeekV3:
      return std::make_unique<NamedCallReader>(NamedCallStyle::kDeepSeekV3);
    case ToolFormat::kDeepSeekV31:
      return std::make_unique<NamedCallReader>(NamedCallStyle::kDeepSeekV31);
    case ToolFormat::kKimiK2:
      return std::make_unique<NamedCallReader>(NamedCallStyle::kKimiK2);
    case ToolFormat::kFunctionary:
      return std::make_unique<NamedCallReader>(NamedCallStyle::kFunctionary);
    case ToolFormat::kQwen3Coder:
    case ToolFormat::kSeedOss:
      return std::make_unique<XmlCallReader>(kQwenXml, types, opener == kQwenXml.function_open);
    case ToolFormat::kGlm:
      return std::make_unique<XmlCallReader>(kGlmXml, types, false);
    case ToolFormat::kGranite:
    case ToolFormat::kCohere:
      return std::make_unique<JsonCallListReader>(JsonCallShape{.arguments_optional = true});
    case ToolFormat::kApertus:
      return std::make_unique<JsonCallListReader>(JsonCallShape{.key_is_name = true});
    case ToolFormat::kGemma4:
      return std::make_unique<GemmaCallReader>();
    case ToolFormat::kNone:
    case ToolFormat::kHarmony:
      break;
  }
  return nullptr;
}

CallSink::IdStyle IdStyleOf(ToolFormat format) {
  return format == ToolFormat::kMistral || format == ToolFormat::kMistralV11
             ? CallSink::IdStyle::kMistral
             : CallSink::IdStyle::kOpenAi;
}

bool IsAllBlank(std::string_view text) { return Trimmed(text).empty(); }

}  // namespace
}  // namespace reply

// Between calls every byte goes through `held_` (what may begin a marker), then through `pending_`
// (blanks, which markers swallow, and the texts that open a section of calls), then to the delta.
// Inside a call it goes to a reader, and to `raw_` until the reader has given it to the sink.
class ReplyParser::Impl {
 public:
  explicit Impl(Options options);

  ReplyDelta Push(std::string_view text);
  ReplyDelta Finish();
  bool has_tool_calls() const { return sink_.num_calls() > 0; }
  bool in_call() const { return sink_.in_call(); }

 private:
  enum class Mode { kContent, kReasoning, kCall };
  enum class Role {
    kOpenReasoning,
    kCloseReasoning,
    kPrelude,
    kOpener,
    kBareOpener,
    kCloser,
    kSilent
  };
  struct Marker {
    std::string_view text;
    Role role;
    int index = 0;
  };

  void ChooseMarkers();
  void TextByte(char c);
  void OnMarker(const Marker& marker);
  void Plain(char c);
  void AppendText(std::string_view text);
  void OpenCall(std::string_view marker);
  void CallByte(char c);
  void LeaveCall(bool whole);

  const Options options_;
  const reply::ToolShape& tools_;
  const reply::ReasoningShape& reasoning_;
  reply::CallSink sink_;
  std::optional<reply::HarmonyReader> harmony_;

  Mode mode_ = Mode::kContent;
  std::vector<Marker> markers_;   // that mean something here
  std::bitset<256> first_bytes_;  // of markers_
  std::string held_;
  std::string pending_;
  bool fresh_ = true;  // no text yet since the reply, its content or the last call began
  bool may_reason_;    // a reasoning block may still come
  bool any_content_ = false;
  bool framed_ = false;  // the previous part drops the blanks around it
  size_t next_closer_;   // closing markers after this are dropped

  std::unique_ptr<reply::CallReader> reader_;
  std::string raw_;
  bool in_reasoning_before_ = false;  // where the text goes if this is not a call
  int calls_before_ = 0;
};

ReplyParser::Impl::Impl(Options options)
    : options_(std::move(options)),
      tools_(reply::ShapeOf(options_.tools_enabled ? options_.format.tools : ToolFormat::kNone)),
      reasoning_(reply::ShapeOf(options_.format.reasoning)),
      sink_(reply::IdStyleOf(options_.format.tools), options_.id_seed,
            options_.parallel ? reply::kMaxCalls : 1),
      may_reason_(!reasoning_.open.empty()),
      next_closer_(tools_.closers.size()) {
  if (options_.format.tools == ToolFormat::kHarmony ||
      options_.format.reasoning == ReasoningFormat::kHarmony) {
    harmony_.emplace(options_.tools_enabled);
  }
  if (options_.begins_in_reasoning && may_reason_) {
    mode_ = Mode::kReasoning;
    may_reason_ = false;
  }
  ChooseMarkers();
}

ReplyDelta ReplyParser::Impl::Push(std::string_view text) {
  for (const char c : text) {
    if (harmony_) {
      harmony_->Read(c, sink_);
    } else if (mode_ == Mode::kCall) {
      CallByte(c);
    } else {
      TextByte(c);
    }
  }
  return sink_.Take();
}

ReplyDelta ReplyParser::Impl::Finish() {
  if (harmony_) {
    harmony_->Finish(sink_);
    return sink_.Take();
  }
  if (mode_ == Mode::kCall) {
    reader_->Finish(sink_);
    LeaveCall(/*whole=*/options_.only_calls);
  }
  if (options_.only_calls && mode_ == Mode::kContent) {
    held_.clear();
    pending_.clear();
  }
  for (const char c : std::exchange(held_, {})) Plain(c);
  const bool swallowed =
      mode_ == Mode::kContent && fresh_ && (has_tool_calls() || (framed_ && !any_content_));
  if (!swallowed || !reply::IsAllBlank(pending_)) AppendText(std::exchange(pending_, {}));
  return sink_.Take();
}

void ReplyParser::Impl::ChooseMarkers() {
  markers_.clear();
  if (mode_ == Mode::kReasoning) {
    markers_.push_back({reasoning_.close, Role::kCloseReasoning});
    // Some models open the block again although the prompt has opened it.
    if (fresh_) markers_.push_back({reasoning_.open, Role::kSilent});
  } else {
    if (may_reason_ && fresh_) markers_.push_back({reasoning_.open, Role::kOpenReasoning});
    for (const auto text : reasoning_.silent) markers_.push_back({text, Role::kSilent});
    for (size_t i = next_closer_; i < tools_.closers.size(); ++i) {
      markers_.push_back({tools_.closers[i], Role::kCloser, static_cast<int>(i)});
    }
  }
  if (sink_.num_calls() < reply::kMaxCalls) {
    for (const auto text : tools_.preludes) markers_.push_back({text, Role::kPrelude});
    for (const auto text : tools_.openers) markers_.push_back({text, Role::kOpener});
    const bool bare = !tools_.bare_opener.empty() && (fresh_ || tools_.bare_in_lines);
    if (mode_ == Mode::kContent && bare) {
      markers_.push_back({tools_.bare_opener, Role::kBareOpener});
    }
    if (mode_ == Mode::kContent && fresh_ && has_tool_calls() && !tools_.separator.empty()) {
      markers_.push_back({tools_.separator, Role::kPrelude});
    }
  }
  first_bytes_.reset();
  for (const Marker& marker : markers_) {
    first_bytes_.set(static_cast<unsigned char>(marker.text.front()));
  }
}

void ReplyParser::Impl::TextByte(char c) {
  if (held_.empty() && !first_bytes_.test(static_cast<unsigned char>(c))) {
    Plain(c);
    return;
  }
  held_.push_back(c);
  while (!held_.empty()) {
    bool begins = false;
    for (const Marker& marker : markers_) {
      if (marker.text == held_) {
        const Marker found = marker;
        held_.clear();
        OnMarker(found);
        return;
      }
      begins |= marker.text.starts_with(held_);
    }
    if (begins) return;
    const char first = held_.front();
    held_.erase(0, 1);
    Plain(first);
  }
}

void ReplyParser::Impl::OnMarker(const Marker& marker) {
  switch (marker.role) {
    case Role::kOpenReasoning:
      pending_.clear();  // blanks
      mode_ = Mode::kReasoning;
      may_reason_ = false;
      framed_ = true;
      break;
    case Role::kCloseReasoning:
      if (reply::IsAllBlank(pending_)) pending_.clear();
      AppendText(std::exchange(pending_, {}));
      mode_ = Mode::kContent;
      fresh_ = true;
      framed_ = true;
      break;
    case Role::kPrelude:
      pending_ += marker.text;
      may_reason_ = false;
      break;
    case Role::kOpener:
      OpenCall(marker.text);
      return;
    case Role::kBareOpener:
      if (!fresh_ && !pending_.ends_with('\n')) {
        Plain(marker.text.front());
        return;
      }
      OpenCall(marker.text);
      raw_.pop_back();  // the reader takes it
      CallByte(marker.text.front());
      return;
    case Role::kCloser:
      if (reply::IsAllBlank(pending_)) pending_.clear();
      next_closer_ = static_cast<size_t>(marker.index) + 1;
      break;
    case Role::kSilent:
      framed_ = true;
      return;
  }
  ChooseMarkers();
}

void ReplyParser::Impl::Plain(char c) {
  if (reply::IsBlank(c) && !markers_.empty() && pending_.size() < reply::kMaxHeldBytes) {
    pending_.push_back(c);
    return;
  }
  if (!pending_.empty()) AppendText(std::exchange(pending_, {}));
  AppendText({&c, 1});
}

// Text between markers: reasoning or content. The first text after a block loses its leading
// blanks.
void ReplyParser::Impl::AppendText(std::string_view text) {
  if (mode_ == Mode::kReasoning) {
    if (fresh_) {
      while (!text.empty() && reply::IsBlank(text.front())) text.remove_prefix(1);
    }
    sink_.delta().reasoning += text;
  } else {
    if (!any_content_ && (framed_ || has_tool_calls())) {
      while (!text.empty() && reply::IsBlank(text.front())) text.remove_prefix(1);
    }
    sink_.delta().content += text;
    any_content_ |= !text.empty();
  }
  if (fresh_ && !reply::IsAllBlank(text)) {
    fresh_ = false;
    if (mode_ == Mode::kContent) may_reason_ = false;
    ChooseMarkers();
  }
}

void ReplyParser::Impl::OpenCall(std::string_view marker) {
  raw_ = std::exchange(pending_, {});
  raw_ += marker;
  reader_ = reply::NewCallReader(options_.format.tools, marker, &options_.parameter_types);
  in_reasoning_before_ = mode_ == Mode::kReasoning;
  calls_before_ = sink_.num_calls();
  mode_ = Mode::kCall;
}

void ReplyParser::Impl::CallByte(char c) {
  const reply::CallStep step = reader_->Read(c, sink_);
  const bool progress = sink_.TakeProgress();
  if (progress || sink_.in_call()) raw_.clear();
  switch (step) {
    case reply::CallStep::kMore:
      if (!progress && !sink_.in_call()) raw_.push_back(c);
      if (sink_.num_calls() == reply::kMaxCalls && !sink_.in_call()) {
        LeaveCall(/*whole=*/true);
      } else if (raw_.size() > reply::kMaxHeldBytes) {
        LeaveCall(/*whole=*/false);
      }
      return;
    case reply::CallStep::kDone:
      LeaveCall(/*whole=*/true);
      return;
    case reply::CallStep::kEnded:
    case reply::CallStep::kBroken:
      LeaveCall(/*whole=*/false);
      TextByte(c);
      return;
  }
}

// `whole`: what is left in raw_ is markup of calls.
void ReplyParser::Impl::LeaveCall(bool whole) {
  if (sink_.in_call()) sink_.End();
  sink_.TakeProgress();
  reader_.reset();
  const bool any = sink_.num_calls() > calls_before_;
  mode_ = any || !in_reasoning_before_ ? Mode::kContent : Mode::kReasoning;
  if (any) {
    fresh_ = true;
    may_reason_ = false;
    next_closer_ = 0;
  }
  if (const std::string raw = std::exchange(raw_, {}); !whole) {
    reply::IsAllBlank(raw) ? void(pending_ += raw) : AppendText(raw);
  }
  ChooseMarkers();
}

ReplyParser::ReplyParser(Options options) : impl_(std::make_unique<Impl>(std::move(options))) {}
ReplyParser::~ReplyParser() = default;
ReplyParser::ReplyParser(ReplyParser&&) noexcept = default;
ReplyParser& ReplyParser::operator=(ReplyParser&&) noexcept = default;

ReplyDelta ReplyParser::Push(std::string_view text) { return impl_->Push(text); }
ReplyDelta ReplyParser::Finish() { return impl_->Finish(); }
bool ReplyParser::has_tool_calls() const { return impl_->has_tool_calls(); }
bool ReplyParser::in_call() const { return impl_->in_call(); }

}  // namespace mea
