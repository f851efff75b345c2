#include "server/bench/openai_client.h"

#include <httplib.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/bench/sse.h"

namespace mea {
namespace {

using Json = nlohmann::json;

constexpr time_t kConnectTimeoutS = 10;
constexpr time_t kLongestSilenceS = 3600;
constexpr size_t kMaxErrorBytes = 4096;  // the part of a refusal's body that is kept

void Configure(httplib::Client& http, const OpenAiServer& server) {
  if (!server.api_key.empty()) http.set_bearer_token_auth(server.api_key.c_str());
  if (!server.tls_ca.empty()) http.set_ca_cert_path(server.tls_ca.c_str());
  http.set_keep_alive(true);
  http.set_tcp_nodelay(true);
  http.set_connection_timeout(kConnectTimeoutS);
  http.set_read_timeout(kLongestSilenceS);
}

Json ToJson(const BenchRequest& from, const BenchCallOptions& options) {
  Json body = {{"model", options.model},
               {"max_tokens", from.max_tokens},
               {"temperature", options.temperature},
               {"stream", true},
               {"stream_options", {{"include_usage", true}}}};
  if (from.token_ids.empty()) {
    body["prompt"] = from.text;
  } else {
    body["prompt"] = from.token_ids;
  }
  if (options.ignore_eos) body["ignore_eos"] = true;  // llama.cpp and vLLM know it
  return body;
}

int Int(const Json& json, const char* key) {
  const auto it = json.find(key);
  return it != json.end() && it->is_number_integer() ? it->get<int>() : 0;
}

// "{"error": {"message": "..."}}", or anything else in the body.
std::string ErrorMessage(const Json& json, const std::string& body) {
  if (json.is_object() && json.contains("error")) {
    const Json& error = json["error"];
    if (error.is_object() && error.contains("message")) return error["message"].dump();
    return error.dump();
  }
  return body;
}

// One answer, from its headers to its end.
class Answer {
 public:
  Answer(RequestRecorder& recorder, BenchClock::time_point give_up)
      : recorder_(recorder), give_up_(give_up) {}

  bool OnHead(const httplib::Response& head) {
    code_ = head.status;
    recorder_.record().retry_told = head.has_header("Retry-After");
    return true;
  }
  // False ends the connection.
  bool OnBody(std::string_view bytes) {
    const BenchClock::time_point now = BenchClock::now();
    if (code_ != 200) {
      body_.append(bytes.substr(0, kMaxErrorBytes - std::min(kMaxErrorBytes, body_.size())));
      return true;
    }
    sse_.Feed(bytes, [&](std::string_view data) { OnEvent(data, now); });
    if (now >= give_up_) timed_out_ = true;
    return !recorder_.TurnsAway() && !timed_out_;
  }
  bool has_begun() const { return code_ != 0; }
  void End(httplib::Error error) {
    const bool silent = error == httplib::Error::Read && BenchClock::now() >= give_up_;
    if (timed_out_ || silent) {
      recorder_.End("DEADLINE_EXCEEDED", "the client gave up");
    } else if (error != httplib::Error::Success && error != httplib::Error::Canceled) {
      recorder_.End("UNAVAILABLE", httplib::to_string(error));
    } else if (code_ != 200) {
      recorder_.End(absl::StrCat("HTTP ", code_),
                    ErrorMessage(Json::parse(body_, nullptr, false), body_));
    } else if (!failure_.empty()) {
      recorder_.End("ERROR IN STREAM", failure_);
    } else if (!done_ && !recorder_.record().cancelled) {
      recorder_.End("CUT OFF", "the stream ended before [DONE]");
    } else {
      recorder_.End(kOkStatus);
    }
  }

 private:
  void OnEvent(std::string_view data, BenchClock::time_point now) {
    if (data == "[DONE]") {
      done_ = true;
      return;
    }
    const Json event = Json::parse(data, nullptr, false);
    if (!event.is_object() || event.contains("error")) {
      failure_ = ErrorMessage(event, std::string(data));
      return;
    }
    const auto choices = event.find("choices");
    if (choices != event.end() && choices->is_array() && !choices->empty()) {
      if (BringsToken(choices->front())) recorder_.Tokens(1, now);
    }
    const auto usage = event.find("usage");
    if (usage != event.end() && usage->is_object()) SetUsage(*usage);
  }
  // Servers give the finish reason in a chunk without text or with the last token. A token whose
  // text is held back (an unfinished code point) has no text either.
  static bool BringsToken(const Json& choice) {
    const auto text = choice.find("text");
    const auto reason = choice.find("finish_reason");
    const bool ends = reason != choice.end() && !reason->is_null();
    return !ends || (text != choice.end() && text->is_string() && !text->empty() &&
                     !text->get_ref<const std::string&>().empty());
  }
  void SetUsage(const Json& usage) {
    RequestRecord& record = recorder_.record();
    record.prompt_tokens = Int(usage, "prompt_tokens");
    record.completion_tokens = Int(usage, "completion_tokens");
    const auto details = usage.find("prompt_tokens_details");
    if (details != usage.end() && details->is_object()) {
      record.cached_tokens = Int(*details, "cached_tokens");
    }
  }

  RequestRecorder& recorder_;
  const BenchClock::time_point give_up_;
  SseReader sse_;
  int code_ = 0;
  std::string body_;     // of a refusal
  std::string failure_;  // reported in the stream
  bool done_ = false;
  bool timed_out_ = false;
};

class OpenAiBenchClient final : public BenchClient {
 public:
  OpenAiBenchClient(const OpenAiServer& server, BenchCallOptions options)
      : http_(server.url, server.tls_cert, server.tls_key), options_(std::move(options)) {
    Configure(http_, server);
  }

  RequestRecord Run(const BenchRequest& request, BenchClock::time_point due,
                    LiveCounts& live) override {
    RequestRecorder recorder(request, live);
    const double timeout_s = options_.timeout_s > 0 ? options_.timeout_s : kLongestSilenceS;
    const auto timeout = std::chrono::duration<double>(timeout_s);
    Answer answer(recorder,
                  BenchClock::now() + std::chrono::duration_cast<BenchClock::duration>(timeout));
    httplib::Request post;
    post.method = "POST";
    post.path = "/v1/completions";
    post.set_header("Content-Type", "application/json");
    post.set_header("Accept", "text/event-stream");
    post.body = ToJson(request, options_).dump();
    post.response_handler = [&](const httplib::Response& head) { return answer.OnHead(head); };
    post.content_receiver = [&](const char* data, size_t size, uint64_t, uint64_t) {
      return answer.OnBody({data, size});
    };
    http_.set_read_timeout(std::chrono::duration_cast<std::chrono::microseconds>(timeout));
    recorder.Start(due);
    const bool is_reused = http_.is_socket_open() != 0;
    httplib::Error error = http_.send(post).error();
    // The server may have closed an idle connection at the moment it was used again.
    const bool is_cut = error == httplib::Error::Read || error == httplib::Error::Write;
    if (is_cut && is_reused && !answer.has_begun()) {
      error = http_.send(post).error();
    }
    answer.End(error);
    return std::move(recorder.record());
  }

 private:
  httplib::Client http_;
  const BenchCallOptions options_;
};

}  // namespace

BenchClientFactory OpenAiBenchClients(OpenAiServer server, BenchCallOptions options) {
  return [server = std::move(server), options = std::move(options)] {
    return std::make_unique<OpenAiBenchClient>(server, options);
  };
}

absl::StatusOr<std::string> AskOpenAiModel(const OpenAiServer& server) {
  const std::string& url = server.url;
  httplib::Client http(url, server.tls_cert, server.tls_key);
  if (!http.is_valid()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--openai '", url, "' is not http://HOST:PORT or https://HOST:PORT"));
  }
  Configure(http, server);
  const httplib::Result result = http.Get("/v1/models");
  if (!result) {
    return absl::UnavailableError(
        absl::StrCat("no server at ", url, " (", httplib::to_string(result.error()), ")"));
  }
  const Json models = Json::parse(result->body, nullptr, false);
  if (result->status == 200 && models.is_object() && models.contains("data")) {
    const Json& data = models["data"];
    if (data.is_array() && !data.empty() && data[0].is_object() && data[0].contains("id") &&
        data[0]["id"].is_string()) {
      return data[0]["id"].get<std::string>();
    }
  }
  return absl::NotFoundError(
      absl::StrCat(url, "/v1/models names no model (HTTP ", result->status, "); give --model"));
}

}  // namespace mea
