#include "tests/server/openai/api_fixture.h"

#include <httplib.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "kernels/check.h"

namespace mea::testing {
namespace {

constexpr char kTemplate[] =
    R"({%- if tools %}<tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</tools>
For each call: <tool_call>
{"name": <name>, "arguments": <json>}
</tool_call>
{% endif %}
{%- for message in messages %}{{ message.role }}: {{ message.content }}
{% endfor %}
{%- if enable_thinking %}<think></think>{% endif %}
{%- if add_generation_prompt %}assistant: {% endif %})";

ServerOptions WithChat(bool has_template) {
  ServerOptions options;
  if (!has_template) return options;
  auto chat = ChatTemplate::Parse(kTemplate, {}, "the test's template");
  MEA_CHECK(chat.ok());
  options.chat = *std::move(chat);
  options.reply_format = DetectReplyFormat(options.chat->source());
  auto grammars = GrammarCompiler::Create(*MakeTestTokenizer(), kVocabSize);
  MEA_CHECK(grammars.ok());
  options.grammars = *std::move(grammars);
  return options;
}

ApiAnswer ToAnswer(const httplib::Result& result) {
  if (!result) return {};
  return {.code = result->status,
          .body = result->body,
          .content_type = result->get_header_value("Content-Type"),
          .retry_after = result->get_header_value("Retry-After"),
          .should_retry = result->get_header_value("X-Should-Retry"),
          .request_id = result->get_header_value("X-Request-Id")};
}

}  // namespace

std::vector<Json> ApiAnswer::Events() const {
  std::vector<Json> events;
  bool done = false;
  for (absl::string_view line : absl::StrSplit(body, '\n')) {
    if (!absl::ConsumePrefix(&line, "data: ")) continue;
    EXPECT_FALSE(done) << "an event behind [DONE]: " << line;
    done = line == "[DONE]";
    if (!done) events.push_back(Json::parse(line.begin(), line.end(), nullptr, false));
  }
  return events;
}

ApiFixture::ApiFixture(FakeEngineOptions options, bool has_template)
    : ServerFixture(std::move(options), /*vllm_names=*/false, WithChat(has_template)) {}

ApiAnswer ApiFixture::Post(const std::string& path, const std::string& body,
                           std::vector<std::pair<std::string, std::string>> headers,
                           const std::string& content_type) const {
  httplib::Client client(absl::StrCat("http://", server->http_address()));
  client.set_read_timeout(20);
  httplib::Headers sent(headers.begin(), headers.end());
  return ToAnswer(client.Post(path, sent, body, content_type));
}

ApiAnswer ApiFixture::Get(const std::string& path) const {
  httplib::Client client(absl::StrCat("http://", server->http_address()));
  return ToAnswer(client.Get(path));
}

Json UserSays(const std::string& text) {
  return {{"messages", Json::array({{{"role", "user"}, {"content", text}}})}};
}

}  // namespace mea::testing
