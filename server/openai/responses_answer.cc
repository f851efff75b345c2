#include "server/openai/responses_answer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/openai/chat_answer.h"

namespace mea::openai {
namespace {

// Items grow one at a time, in the order of the reply. In a stream each step is an event; the whole
// answer is the object of the last event.
class ResponsesAnswer final : public Answer {
 public:
  ResponsesAnswer(AnswerInfo info, ResponsesAnswerOptions options, TokenText tokens)
      : Answer(std::move(info)), options_(std::move(options)), tokens_(tokens) {}

  void Add(int /*prompt*/, PromptOutput output) override { usage_.AddPrompt(output); }
  void Add(int /*prompt*/, DeltaOutput delta) override {
    Begin();
    if (options_.logprobs) {
      for (Json& entry : LogprobsContent(tokens_, delta.logprobs, options_.top_logprobs)) {
        new_logprobs_.push_back(std::move(entry));
      }
    }
    if (!delta.reply) return;
    if (!delta.reply->reasoning.empty()) AddText(Item::kReasoning, delta.reply->reasoning);
    if (!delta.reply->content.empty()) AddText(Item::kMessage, delta.reply->content);
    for (const ToolCallDelta& call : delta.reply->tool_calls) AddCall(call);
  }
  void Add(int prompt, FinishOutput finish) override {
    Begin();
    usage_.AddFinish(prompt, finish);
    is_cut_ = finish.reason == FinishReason::kLength;
    // An empty reply is still a message.
    if (output_.empty() && !open_) Open(Item::kMessage, {});
    Close(is_cut_ ? "incomplete" : "completed");
  }
  void End() override {
    const Json response = Response(is_cut_ ? "incomplete" : "completed");
    if (options_.stream) {
      Event(is_cut_ ? "response.incomplete" : "response.completed", {{"response", response}});
    } else {
      text_ = Dump(response);
    }
  }
  void Fail(const Json& error) override {
    Json response = Response("failed");
    response["error"] = {{"code", error["code"].is_null() ? error["type"] : error["code"]},
                         {"message", error["message"]}};
    Event("response.failed", {{"response", response}});
  }

 private:
  enum class Item { kReasoning, kMessage, kCall };
  struct OpenItem {
    Item kind;
    std::string id;
    std::string text;  // or arguments
    int call_index = -1;
    std::string call_id, name;
  };

  void Event(const std::string& type, Json fields) {
    if (!options_.stream) return;
    Json event = {{"type", type}, {"sequence_number", num_events_++}};
    event.update(fields);
    SendEvent(type, event);
  }
  // The event of a part of the open item.
  void ItemEvent(const std::string& type, Json fields) {
    Json place = {{"item_id", open_->id}, {"output_index", std::ssize(output_)}};
    if (open_->kind != Item::kCall) place["content_index"] = 0;
    place.update(fields);
    Event(type, std::move(place));
  }

  void Begin() {
    if (std::exchange(begun_, true)) return;
    Event("response.created", {{"response", Response("in_progress")}});
    Event("response.in_progress", {{"response", Response("in_progress")}});
  }
  void AddText(Item kind, const std::string& text) {
    if (!open_ || open_->kind != kind) {
      Close("completed");
      Open(kind, {});
    }
    open_->text += text;
    Json fields = {{"delta", text}};
    if (kind == Item::kMessage) fields["logprobs"] = TakeLogprobs();
    ItemEvent(TextType() + ".delta", std::move(fields));
  }
  // Those of the tokens since it was called last; the open message keeps them too.
  Json TakeLogprobs() {
    logprobs_.insert(logprobs_.end(), new_logprobs_.begin(), new_logprobs_.end());
    return std::exchange(new_logprobs_, Json::array());
  }
  void AddCall(const ToolCallDelta& call) {
    if (!open_ || open_->kind != Item::kCall || open_->call_index != call.index) {
      Close("completed");
      Open(Item::kCall, call);
    }
    open_->text += call.arguments;
    if (call.arguments.empty()) return;
    ItemEvent("response.function_call_arguments.delta", {{"delta", call.arguments}});
  }

  std::string TextType() const {
    return open_->kind == Item::kReasoning ? "response.reasoning_text" : "response.output_text";
  }
  void Open(Item kind, const ToolCallDelta& call) {
    constexpr const char* kPrefixes[] = {"rs_", "msg_", "fc_"};
    open_ = OpenItem{.kind = kind,
                     .id = absl::StrCat(kPrefixes[static_cast<int>(kind)],
                                        info_.id.substr(info_.id.find('_') + 1), output_.size()),
                     .call_index = call.index,
                     .call_id = call.id,
                     .name = call.name};
    Json item = ItemJson("in_progress");
    if (kind != Item::kCall) item["content"] = Json::array();
    Event("response.output_item.added",
          {{"output_index", std::ssize(output_)}, {"item", std::move(item)}});
    if (kind != Item::kCall) ItemEvent("response.content_part.added", {{"part", Part()}});
  }
  void Close(const char* status) {
    if (!open_) return;
    if (open_->kind == Item::kCall) {
      ItemEvent("response.function_call_arguments.done",
                {{"name", open_->name}, {"arguments", open_->text}});
    } else {
      Json fields = {{"text", open_->text}};
      if (open_->kind == Item::kMessage) {
        TakeLogprobs();
        fields["logprobs"] = logprobs_;
      }
      ItemEvent(TextType() + ".done", std::move(fields));
      ItemEvent("response.content_part.done", {{"part", Part()}});
    }
    Json item = ItemJson(status);
    Event("response.output_item.done", {{"output_index", std::ssize(output_)}, {"item", item}});
    output_.push_back(std::move(item));
    if (open_->kind == Item::kMessage) logprobs_ = Json::array();
    open_.reset();
  }

  Json Part() const {
    if (open_->kind == Item::kReasoning) {
      return {{"type", "reasoning_text"}, {"text", open_->text}};
    }
    return {{"type", "output_text"},
            {"text", open_->text},
            {"annotations", Json::array()},
            {"logprobs", logprobs_}};
  }
  Json ItemJson(const char* status) const {
    switch (open_->kind) {
      case Item::kReasoning:
        return {{"id", open_->id},
                {"type", "reasoning"},
                {"summary", Json::array()},
                {"content", Json::array({Part()})},
                {"status", status}};
      case Item::kMessage:
        return {{"id", open_->id},
                {"type", "message"},
                {"status", status},
                {"role", "assistant"},
                {"content", Json::array({Part()})}};
      case Item::kCall:
        return {{"id", open_->id},           {"type", "function_call"}, {"status", status},
                {"call_id", open_->call_id}, {"name", open_->name},     {"arguments", open_->text}};
    }
    return nullptr;
  }
  Json Response(const char* status) const {
    Json response = {
        {"id", info_.id},       {"object", "response"},    {"created_at", info_.created},
        {"status", status},     {"error", nullptr},        {"incomplete_details", nullptr},
        {"model", info_.model}, {"output", output_},       {"previous_response_id", nullptr},
        {"store", false},       {"truncation", "disabled"}};
    if (is_cut_) response["incomplete_details"] = {{"reason", "max_output_tokens"}};
    response.update(options_.echoed);
    const std::string_view is(status);  // the usage of one that failed is not known
    const bool has_usage = is == "completed" || is == "incomplete";
    response["usage"] = has_usage ? usage_.ToResponsesJson() : Json(nullptr);
    return response;
  }

  const ResponsesAnswerOptions options_;
  const TokenText tokens_;
  UsageSum usage_;
  Json output_ = Json::array();  // finished items
  std::optional<OpenItem> open_;
  Json logprobs_ = Json::array();      // of the open message
  Json new_logprobs_ = Json::array();  // in no event yet
  bool begun_ = false;
  bool is_cut_ = false;
  int64_t num_events_ = 0;
};

}  // namespace

std::unique_ptr<Answer> MakeResponsesAnswer(AnswerInfo info, ResponsesAnswerOptions options,
                                            TokenText tokens) {
  return std::make_unique<ResponsesAnswer>(std::move(info), std::move(options), tokens);
}

}  // namespace mea::openai
