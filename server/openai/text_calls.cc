#include "server/openai/text_calls.h"

#include <atomic>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/refusal.h"
#include "kernels/status_macros.h"
#include "server/client_text.h"
#include "server/limits.h"
#include "server/openai/chat_fields.h"
#include "server/openai/error.h"
#include "server/openai/json_reader.h"
#include "server/openai/token_text.h"

namespace mea::openai {
namespace {

constexpr int64_t kJsonBytesPerToken = 7;  // roughly: an id, or what surrounds a text

// The size is known before the answer is made.
absl::Status TooLargeJson(int64_t bytes) {
  return ResourceExhausted(
      absl::StrCat("the answer of ", bytes, " bytes exceeds ", kMaxHttpAnswerBytes),
      "RESPONSE_TOO_LARGE");
}

class TextCall final : public HttpCall {
 public:
  void OnGone() override { gone_.store(true); }
  absl::Status StillWanted() const {
    return gone_ ? absl::CancelledError("cancelled by the client") : absl::OkStatus();
  }

 private:
  std::atomic<bool> gone_ = false;
};

}  // namespace

std::shared_ptr<HttpCall> AnswerOnTextWorker(Serving& serving,
                                             std::shared_ptr<HttpExchange> exchange,
                                             TextAnswer answer) {
  // It counts as a request but not as a running one, because it is short.
  absl::Status admitted =
      serving.access->Admit(exchange->request().Header("authorization")).status();
  const auto under_way = serving.text_calls.Hold();
  if (admitted.ok()) admitted = serving.readiness.CheckNotDraining();
  const int64_t bytes = std::ssize(exchange->request().body);
  const absl::StatusOr<TextLease> text = admitted.ok() ? serving.text_budget.Take(bytes) : admitted;
  if (!text.ok()) {
    exchange->Send(ErrorAnswer(text.status()));
    return nullptr;
  }
  auto call = std::make_shared<TextCall>();
  const auto job = [&serving, exchange, answer, call, under_way, text = *text] {
    if (!call->StillWanted().ok()) return;
    const absl::StatusOr<Json> body = ParseBody(exchange->request().body);
    const absl::StatusOr<Json> json =
        body.ok() ? answer(*body, serving, [&] { return call->StillWanted(); }) : body;
    exchange->Send(json.ok() ? JsonAnswer(*json) : ErrorAnswer(json.status()));
  };
  if (serving.workers.Post(job, bytes)) return call;
  exchange->Send(
      ErrorAnswer(ResourceExhausted(absl::StrCat("the queue of ", kMaxTextJobs, " texts is full"),
                                    "TEXT_QUEUE_FULL", kRetryDelay)));
  return nullptr;
}

absl::StatusOr<Json> Tokenize(const Json& body, const Serving& serving, StillWanted still_wanted) {
  absl::Status complaint;
  JsonReader reader(body, &complaint);
  std::vector<int32_t> ids;
  MEA_RETURN_IF_ERROR(CheckModelField(reader, serving));
  const auto special = reader.Bool("add_special_tokens");
  const auto parse_special = reader.Bool("parse_special");
  if (reader.Has("messages")) {
    MEA_ASSIGN_OR_RETURN(ids, RenderMessages(reader, serving, still_wanted));
  } else {
    const auto prompt = reader.String("prompt");
    if (!prompt) reader.Invalid("prompt", "is not set; a prompt or messages are expected");
    MEA_RETURN_IF_ERROR(complaint);
    if (std::ssize(*prompt) > kMaxPromptBytes) {
      reader.Invalid("prompt",
                     absl::StrCat("has ", prompt->size(), " bytes, the most is ", kMaxPromptBytes));
      return complaint;
    }
    MEA_ASSIGN_OR_RETURN(
        ids, EncodeText(serving.tokenizer, "prompt", *prompt,
                        PlainTextOptions(special.value_or(true), parse_special.value_or(true)),
                        still_wanted));
  }
  const bool with_texts = reader.Bool("return_token_strs").value_or(false);
  MEA_RETURN_IF_ERROR(complaint);
  int64_t bytes = kJsonBytesPerToken * std::ssize(ids);
  for (const int32_t id : ids) {
    if (with_texts) bytes += kJsonBytesPerToken + std::ssize(serving.tokenizer.TokenBytes(id));
  }
  if (bytes > kMaxHttpAnswerBytes) return TooLargeJson(bytes);
  Json answer = {{"count", ids.size()},
                 {"max_model_len", serving.engine.max_context()},
                 {"tokens", ids},
                 {"token_strs", nullptr}};
  if (with_texts) {
    const TokenText tokens(serving.tokenizer, /*as_ids=*/false);
    answer["token_strs"] = Json::array();
    for (const int32_t id : ids) answer["token_strs"].push_back(tokens.Text(id));
  }
  return answer;
}

absl::StatusOr<Json> Detokenize(const Json& body, const Serving& serving,
                                StillWanted still_wanted) {
  absl::Status complaint;
  JsonReader reader(body, &complaint);
  MEA_RETURN_IF_ERROR(CheckModelField(reader, serving));
  if (!reader.Has("tokens")) reader.Invalid("tokens", "is not set");
  const std::vector<int32_t> ids = reader.Ints("tokens");
  const bool skip = reader.Bool("skip_special_tokens").value_or(false);
  const int32_t vocab_size = serving.engine.config().vocab_size;
  for (size_t i = 0; i < ids.size() && complaint.ok(); ++i) {
    if (ids[i] >= 0 && ids[i] < vocab_size) continue;
    reader.Invalid(absl::StrCat("tokens[", i, "]"),
                   absl::StrCat(ids[i], " is outside the vocabulary 0..", vocab_size - 1));
  }
  MEA_RETURN_IF_ERROR(complaint);
  int64_t bytes = 0;
  for (const int32_t id : ids) bytes += std::ssize(serving.tokenizer.TokenBytes(id));
  if (bytes > kMaxHttpAnswerBytes) return TooLargeJson(bytes);
  MEA_ASSIGN_OR_RETURN(std::string text,
                       DecodeTokens(serving.tokenizer, "tokens", ids, skip, still_wanted));
  return Json{{"prompt", std::move(text)}};
}

}  // namespace mea::openai
