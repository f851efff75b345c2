#pragma once

#include <memory>
#include <string>
#include <vector>

#include "server/openai/json.h"
#include "tests/server/server_fixture.h"

namespace mea::testing {

using openai::Json;

// What came back over HTTP.
struct ApiAnswer {
  int code = 0;
  std::string body;
  std::string content_type;
  std::string retry_after;
  std::string should_retry;
  std::string request_id;

  Json json() const { return Json::parse(body, nullptr, false); }
  // Of a stream: the data of its events, without [DONE], which must be the last of them.
  std::vector<Json> Events() const;
  Json error() const { return json().value("error", Json()); }
};

// A server whose model has a chat template with tools in the form of Hermes and thoughts, and
// structured output. The template ends a prompt where the assistant begins.
class ApiFixture : public ServerFixture {
 public:
  explicit ApiFixture(FakeEngineOptions options = {}, bool has_template = true);

  ApiAnswer Post(const std::string& path, const std::string& body,
                 std::vector<std::pair<std::string, std::string>> headers = {},
                 const std::string& content_type = "application/json") const;
  ApiAnswer Post(const std::string& path, const Json& body) const {
    return Post(path, body.dump());
  }
  ApiAnswer Get(const std::string& path) const;
};

// {"messages": [{"role": "user", "content": `text`}]}
Json UserSays(const std::string& text);

}  // namespace mea::testing
