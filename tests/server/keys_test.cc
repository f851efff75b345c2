// Keys at all doors of a server: what each may do, how much, and what is seen of it.
#include <gmock/gmock.h>
#include <httplib.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/access/key_file.h"
#include "server/load_report.h"
#include "tests/server/access/test_certificates.h"
#include "tests/server/server_fixture.h"
#include "vllm/grpc/engine/vllm_engine.grpc.pb.h"

namespace mea::testing {
namespace {

using ::testing::AnyOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

ApiKey KeyOf(const std::string& name, std::array<bool, 3> rights, KeyLimits limits = {}) {
  return {.name = name, .rights = rights, .hash = HashOf("secret-" + name), .limits = limits};
}

// A file with one key for each right.
struct KeyWorld {
  explicit KeyWorld(KeyLimits limits, bool open_metrics) {
    Write({KeyOf("alice", {true, false, false}, limits), KeyOf("ops", {false, true, false}),
           KeyOf("prom", {false, false, true})});
    options.access = *Access::Load(files.Path("keys.jsonl"));
    options.file_watch_period = absl::Milliseconds(5);
    options.open_metrics = open_metrics;
  }
  void Write(const std::vector<ApiKey>& keys) const {
    std::string text;
    for (const ApiKey& key : keys) text += KeyFileLine(key) + "\n";
    files.Write("keys.jsonl", text);
  }

  const TestFiles files;
  ServerOptions options;
};

class KeyServer : public KeyWorld, public ServerFixture {
 public:
  explicit KeyServer(KeyLimits limits = {}, FakeEngineOptions engine_options = {},
                     bool open_metrics = false)
      : KeyWorld(limits, open_metrics), ServerFixture(std::move(engine_options), false, options) {}

  // Of a call of `name`; empty: nobody.
  std::unique_ptr<grpc::ClientContext> As(const std::string& name) const {
    auto context = Context();
    if (!name.empty()) context->AddMetadata("authorization", "Bearer secret-" + name);
    return context;
  }
  grpc::Status GenerateAs(const std::string& name, const std::string& prompt = "hi",
                          int max_tokens = 8) const {
    v1::GenerateResponse response;
    return inference->Generate(As(name).get(), TextRequest(prompt, max_tokens), &response);
  }
  httplib::Result Http(const std::string& method, const std::string& path,
                       const std::string& name = "", const std::string& body = "",
                       bool admin = false) const {
    httplib::Client client("http://" + (admin ? server->admin_address() : server->http_address()));
    if (!name.empty()) client.set_bearer_token_auth("secret-" + name);
    return method == "GET" ? client.Get(path) : client.Post(path, body, "application/json");
  }
};

std::string ReasonOf(const grpc::Status& status, bool* has_retry = nullptr) {
  google::rpc::Status details;
  details.ParseFromString(status.error_details());
  std::string reason;
  for (const auto& detail : details.details()) {
    google::rpc::ErrorInfo info;
    if (detail.UnpackTo(&info)) reason = info.reason();
    if (has_retry != nullptr && detail.Is<google::rpc::RetryInfo>()) *has_retry = true;
  }
  return reason;
}

// What each of these gets: nobody, a stranger, alice (inference), ops (control), prom (metrics).
const std::vector<std::string> kCallers = {"", "stranger", "alice", "ops", "prom"};

TEST(KeysTest, EachCallNeedsItsRight) {
  const KeyServer s;
  const auto codes = [&](const auto& call) {
    std::string all;
    for (const std::string& name : kCallers) {
      const grpc::Status status = call(*s.As(name));
      all += status.error_code() == grpc::StatusCode::UNAUTHENTICATED     ? 'u'
             : status.error_code() == grpc::StatusCode::PERMISSION_DENIED ? 'd'
                                                                          : '+';
    }
    return all;
  };
  const v1::GenerateRequest request = TextRequest("hi", 2);
  EXPECT_EQ(codes([&](grpc::ClientContext& c) {
              v1::GenerateResponse r;
              return s.inference->Generate(&c, request, &r);
            }),
            "uu+dd");
  EXPECT_EQ(codes([&](grpc::ClientContext& c) {
              return ReadAll(*s.inference->GenerateStream(&c, request)).status;
            }),
            "uu+dd");
  EXPECT_EQ(codes([&](grpc::ClientContext& c) {
              v1::TokenizeResponse r;
              return s.inference->Tokenize(&c, {}, &r);
            }),
            "uu+dd");
  EXPECT_EQ(codes([&](grpc::ClientContext& c) {
              v1::DetokenizeResponse r;
              return s.inference->Detokenize(&c, {}, &r);
            }),
            "uu+dd");
  EXPECT_EQ(codes([&](grpc::ClientContext& c) {
              v1::RenderChatResponse r;
              return s.inference->RenderChat(&c, {}, &r);
            }),
            "uu+dd");
  EXPECT_EQ(codes([&](grpc::ClientContext& c) {
              v1::GetModelInfoResponse r;
              return s.control->GetModelInfo(&c, {}, &r);
            }),
            "uu+++");
  EXPECT_EQ(codes([&](grpc::ClientContext& c) {
              v1::GetServerInfoResponse r;
              return s.control->GetServerInfo(&c, {}, &r);
            }),
            "uud+d");
  EXPECT_EQ(codes([&](grpc::ClientContext& c) {
              v1::GetCacheStatsResponse r;
              return s.control->GetCacheStats(&c, {}, &r);
            }),
            "uud+d");
  EXPECT_EQ(codes([&](grpc::ClientContext& c) {
              v1::GetLoadResponse r;
              return s.control->GetLoad(&c, {}, &r);
            }),
            "uud+d");
  EXPECT_EQ(codes([&](grpc::ClientContext& c) {
              v1::AbortResponse r;
              return s.control->Abort(&c, {}, &r);
            }),
            "uud+d");
  EXPECT_EQ(s.Health(), grpc::health::v1::HealthCheckResponse::SERVING);
}

TEST(KeysTest, EachCallOfTheEngineForRoutersNeedsItsRight) {
  namespace vllm_engine = ::vllm::grpc::engine;
  const KeyServer s;
  const auto stub = vllm_engine::VllmEngine::NewStub(s.channel);
  const auto codes = [&](const auto& call) {
    std::string all;
    for (const std::string& name : kCallers) {
      const grpc::StatusCode code = call(*s.As(name)).error_code();
      all += code == grpc::StatusCode::UNAUTHENTICATED     ? 'u'
             : code == grpc::StatusCode::PERMISSION_DENIED ? 'd'
                                                           : '+';
    }
    return all;
  };
  EXPECT_EQ(codes([&](grpc::ClientContext& c) { return stub->Generate(&c, {})->Finish(); }),
            "uu+dd");
  EXPECT_EQ(codes([&](grpc::ClientContext& c) {
              const auto reader = stub->GetTokenizer(&c, {});
              for (::smg::grpc::common::GetTokenizerChunk chunk; reader->Read(&chunk);) {
              }
              return reader->Finish();
            }),
            "uu+++");
  EXPECT_EQ(codes([&](grpc::ClientContext& c) {
              vllm_engine::GetModelInfoResponse r;
              return stub->GetModelInfo(&c, {}, &r);
            }),
            "uu+++");
  EXPECT_EQ(codes([&](grpc::ClientContext& c) {
              vllm_engine::GetServerInfoResponse r;
              return stub->GetServerInfo(&c, {}, &r);
            }),
            "uud+d");
  EXPECT_EQ(codes([&](grpc::ClientContext& c) {
              vllm_engine::GetLoadsResponse r;
              return stub->GetLoads(&c, {}, &r);
            }),
            "uud+d");
  EXPECT_EQ(codes([&](grpc::ClientContext& c) {
              vllm_engine::AbortResponse r;
              return stub->Abort(&c, {}, &r);
            }),
            "uud+d");
  EXPECT_EQ(codes([&](grpc::ClientContext& c) {
              ::smg::grpc::common::FlushCacheResponse r;
              return stub->FlushCache(&c, {}, &r);
            }),
            "uud+d");
  EXPECT_EQ(codes([&](grpc::ClientContext& c) {
              const auto reader = stub->SubscribeKvEvents(&c, {});
              ::smg::grpc::common::KvEventBatch batch;
              if (reader->Read(&batch)) c.TryCancel();  // admitted: it would not end
              return reader->Finish();
            }),
            "uud+d");
  EXPECT_EQ(codes([&](grpc::ClientContext& c) {
              vllm_engine::HealthCheckResponse r;
              return stub->HealthCheck(&c, {}, &r);
            }),
            "+++++");
}

TEST(KeysTest, WhoeverMayNotCallIsNotToldTheLoad) {
  const KeyServer s;
  for (const std::string name : {"", "prom", "alice"}) {
    const auto context = s.As(name);
    context->AddMetadata(kLoadFormatHeader, "TEXT");
    v1::GenerateResponse response;
    s.inference->Generate(context.get(), TextRequest("hi", 2), &response);
    const auto told = context->GetServerTrailingMetadata().count("endpoint-load-metrics");
    EXPECT_EQ(told, name == "alice" ? 1u : 0u) << name;
  }
}

TEST(KeysTest, ASubscriberWhoseKeyIsRemovedIsCutOff) {
  KeyServer s;
  const auto stub = ::vllm::grpc::engine::VllmEngine::NewStub(s.channel);
  const auto context = s.As("ops");
  const auto reader = stub->SubscribeKvEvents(context.get(), {});
  ::smg::grpc::common::KvEventBatch batch;
  ASSERT_TRUE(reader->Read(&batch));
  s.Write({KeyOf("alice", {true, false, false})});
  while (s.options.access->num_keys() != 1) absl::SleepFor(absl::Milliseconds(1));
  s.engine.TellPrefixObserver({{.kind = PrefixEvent::Kind::kCleared}});
  EXPECT_FALSE(reader->Read(&batch));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::UNAUTHENTICATED);
}

TEST(KeysTest, EachPathNeedsItsRight) {
  const KeyServer s;
  const auto codes = [&](const char* method, const char* path, bool admin = false) {
    std::string all;
    for (const std::string& name : kCallers) {
      const httplib::Result result = s.Http(method, path, name, "{}", admin);
      EXPECT_TRUE(result) << path;
      if (!result) return all;
      all += result->status == 401 ? 'u' : result->status == 403 ? 'd' : '+';
    }
    return all;
  };
  for (const char* path :
       {"/v1/chat/completions", "/v1/completions", "/v1/responses", "/tokenize", "/detokenize"}) {
    EXPECT_EQ(codes("POST", path), "uu+dd") << path;
  }
  for (const char* path :
       {"/v1/models", "/v1/models/fake", "/tokenizer_info", "/version", "/openapi.json"}) {
    EXPECT_EQ(codes("GET", path), "uu+++") << path;
  }
  EXPECT_EQ(codes("GET", "/metrics"), "uudd+");
  EXPECT_EQ(codes("GET", "/health"), "+++++");
  EXPECT_EQ(codes("GET", "/ping"), "+++++");
  EXPECT_EQ(codes("POST", "/ping"), "+++++");
  EXPECT_EQ(codes("GET", "/metrics", /*admin=*/true), "uudd+");
  for (const bool admin : {false, true}) {
    EXPECT_EQ(codes("GET", "/", admin), "+++++");
    EXPECT_EQ(codes("GET", "/status.json", admin), "uudd+");
  }
  EXPECT_EQ(codes("GET", "/health", /*admin=*/true), "+++++");
}

TEST(KeysTest, TheDescriptionSaysWhereKeysAreAskedFor) {
  const KeyServer s;
  const Json described = Json::parse(s.Http("GET", "/openapi.json", "alice")->body);
  EXPECT_EQ(described["components"]["securitySchemes"]["key"],
            Json({{"type", "http"}, {"scheme", "bearer"}}));
  EXPECT_EQ(described["security"], Json::parse(R"([{"key": []}])"));
  EXPECT_EQ(described["paths"]["/health"]["get"]["security"], Json::array());
  EXPECT_FALSE(described["paths"]["/metrics"]["get"].contains("security"));
  EXPECT_TRUE(described["paths"]["/tokenize"]["post"]["responses"].contains("401"));
  const ServerFixture without;
  const std::string text =
      without.HttpGet("/openapi.json", nullptr, without.server->http_address());
  EXPECT_FALSE(Json::parse(text).contains("security"));
}

TEST(KeysTest, MetricsCanBeOpened) {
  const KeyServer s({}, {}, /*open_metrics=*/true);
  EXPECT_EQ(s.Http("GET", "/metrics")->status, 200);
  EXPECT_EQ(s.Http("GET", "/metrics", "", "", /*admin=*/true)->status, 200);
  EXPECT_EQ(s.Http("GET", "/status.json", "", "", /*admin=*/true)->status, 401);
}

TEST(KeysTest, ARefusalIsOpenAisErrorObject) {
  const KeyServer s;
  const httplib::Result unknown = s.Http("POST", "/v1/completions", "stranger", "{}");
  EXPECT_EQ(unknown->get_header_value("WWW-Authenticate"), "Bearer");
  const Json error = Json::parse(unknown->body)["error"];
  EXPECT_EQ(error["code"], "invalid_api_key");
  EXPECT_EQ(error["type"], "authentication_error");
  const Json denied = Json::parse(s.Http("POST", "/v1/completions", "ops", "{}")->body)["error"];
  EXPECT_EQ(denied["message"], "key 'ops' has no right 'inference'");
}

TEST(KeysTest, NobodyEndsAnothersRequestWithoutControl) {
  KeyServer s({}, {.automatic = false});
  s.engine.SetAnswer("abc");
  v1::GenerateRequest request = TextRequest("hi");
  request.set_request_id("mine");
  const auto context = s.As("alice");
  const auto stream = s.inference->GenerateStream(context.get(), request);
  ASSERT_TRUE(s.engine.AwaitInFlight(1));
  v1::AbortRequest abort;
  abort.set_request_id("mine");
  v1::AbortResponse response;
  EXPECT_EQ(s.control->Abort(s.As("alice").get(), abort, &response).error_code(),
            grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_TRUE(s.control->Abort(s.As("ops").get(), abort, &response).ok());
  s.engine.Step(2);
  EXPECT_EQ(ReadAll(*stream).status.error_code(), grpc::StatusCode::CANCELLED);
}

TEST(KeysTest, WhatRunsAtOnceIsBoundedAndFreeOnceItsEndIsSeen) {
  KeyServer s({.concurrent_requests = 1}, {.automatic = false});
  s.engine.SetAnswer("abc");
  const auto context = s.As("alice");
  const auto stream = s.inference->GenerateStream(context.get(), TextRequest("hi"));
  ASSERT_TRUE(s.engine.AwaitInFlight(1));
  const grpc::Status refused = s.GenerateAs("alice");
  bool has_retry = false;
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(ReasonOf(refused, &has_retry), "KEY_CONCURRENT_REQUESTS");
  EXPECT_TRUE(has_retry);
  const httplib::Result http = s.Http("POST", "/v1/completions", "alice", R"({"prompt": "hi"})");
  EXPECT_EQ(http->status, 429);
  EXPECT_EQ(http->get_header_value("Retry-After"), "1");
  EXPECT_EQ(Json::parse(http->body)["error"]["code"], "key_concurrent_requests");
  s.engine.Step(4);
  EXPECT_TRUE(ReadAll(*stream).status.ok());
}

TEST(KeysTest, AClientThatAsksOneByOneNeverMeetsItsOwnRequest) {
  const KeyServer s({.concurrent_requests = 1});
  for (int i = 0; i < 50; ++i) {
    EXPECT_TRUE(s.GenerateAs("alice").ok()) << i;
    const httplib::Result http = s.Http("POST", "/v1/completions", "alice",
                                        R"({"prompt": ["a", "b"], "max_tokens": 2, "n": 2})");
    EXPECT_EQ(http->status, 200) << i << ": " << http->body;
  }
}

TEST(KeysTest, ARefusedRequestLeavesNothingBehind) {
  KeyServer s({.concurrent_requests = 1, .kv_cache_bytes = 1 << 20});
  s.engine.RefuseNext(absl::ResourceExhaustedError("full"));
  EXPECT_EQ(s.GenerateAs("alice").error_message(), "full");
  EXPECT_EQ(s.GenerateAs("alice", "").error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(s.Http("POST", "/v1/completions", "alice", "no JSON")->status, 400);
  EXPECT_TRUE(s.GenerateAs("alice").ok());
  const KeyUsage usage = s.options.access->usage()[0];
  EXPECT_EQ(usage.num_running, 0);
  EXPECT_EQ(usage.kv_cache_bytes, 0);
  EXPECT_EQ(usage.prompt_tokens, 2) << "of the one that was computed";
}

TEST(KeysTest, CacheMemoryOfAKeyIsItsContext) {
  // The engine's pages are of 16 tokens and 64 bytes each: four of them.
  KeyServer s({.kv_cache_bytes = 4096}, {.automatic = false});
  s.engine.SetAnswer("abc");
  v1::GenerateRequest request = TextRequest("hi");
  request.mutable_stopping()->clear_max_tokens();
  const auto context = s.As("alice");
  const auto stream = s.inference->GenerateStream(context.get(), request);
  ASSERT_TRUE(s.engine.AwaitInFlight(1));
  EXPECT_EQ(s.engine.last_request().stopping.max_tokens, 62);
  EXPECT_EQ(ReasonOf(s.GenerateAs("alice")), "KEY_KV_CACHE_BYTES");
  EXPECT_EQ(s.GenerateAs("alice", "hi", 63).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  s.engine.Step(4);
  EXPECT_TRUE(ReadAll(*stream).status.ok());
}

TEST(KeysTest, MetricsTellWhatEachKeyUsed) {
  const KeyServer s({.requests_per_minute = 2});
  EXPECT_TRUE(s.GenerateAs("alice", "four").ok());
  EXPECT_TRUE(s.GenerateAs("alice", "four").ok());
  EXPECT_EQ(ReasonOf(s.GenerateAs("alice")), "KEY_REQUESTS_PER_MINUTE");
  s.GenerateAs("stranger");
  const std::string text = s.Http("GET", "/metrics", "prom")->body;
  for (
      const char* line :
      {R"(mea_key_requests_total{model_name="fake",key="alice"} 2)",
       R"(mea_key_requests_running{model_name="fake",key="alice"} 0)",
       R"(mea_key_tokens_total{model_name="fake",key="alice",kind="prompt"} 8)",
       R"(mea_key_tokens_total{model_name="fake",key="alice",kind="completion"} 12)",
       R"(mea_key_refused_total{model_name="fake",key="alice",reason="key_requests_per_minute"} 1)",
       R"(mea_key_requests_total{model_name="fake",key="ops"} 0)",
       R"(mea_unauthenticated_total{model_name="fake"} 1)"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
  EXPECT_THAT(text, Not(HasSubstr("stranger")));
}

TEST(KeysTest, AChangedFileIsTakenAndABrokenOneIsNot) {
  const KeyServer s;
  s.Write({KeyOf("bob", {true, false, false})});
  s.AwaitLog("api keys taken keys=1");
  EXPECT_TRUE(s.GenerateAs("bob").ok());
  EXPECT_EQ(s.GenerateAs("alice").error_code(), grpc::StatusCode::UNAUTHENTICATED);
  s.files.Write("keys.jsonl", "nothing");
  s.AwaitLog("api keys not taken");
  EXPECT_TRUE(s.GenerateAs("bob").ok());
}

TEST(KeysTest, NeitherKeysNorWhatIsReadAndWrittenIsLogged) {
  KeyServer s({.requests_per_minute = 3});
  s.engine.SetAnswer("confidential");
  EXPECT_TRUE(s.GenerateAs("alice", "confidential").ok());
  s.GenerateAs("secret-stranger", "confidential");
  s.GenerateAs("ops", "confidential");
  const std::string body = R"({"prompt": "confidential", "max_tokens": 3, "top_p": 9,
      "stop": "confidential", "suffix": "confidential"})";
  for (const char* name : {"alice", "stranger", "ops", "alice", "alice"}) {
    s.Http("POST", "/v1/completions", name, body);
  }
  s.Http("POST", "/v1/completions", "alice", R"({"prompt": "confidential)");
  const std::vector<std::string> lines = s.StopAndReadLog();
  EXPECT_GT(lines.size(), 5u);
  EXPECT_THAT(lines, Each(Not(AnyOf(HasSubstr("confidential"), HasSubstr("secret")))));
}

}  // namespace
}  // namespace mea::testing
