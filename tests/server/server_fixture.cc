#include "tests/server/server_fixture.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "kernels/check.h"
#include "server/address.h"
#include "server/library_log.h"

namespace mea::testing {

ServerFixture::ServerFixture(FakeEngineOptions options, bool vllm_names,
                             ServerOptions server_options)
    : engine(std::move(options)), metrics({.model_name = "fake", .vllm_names = vllm_names}) {
  LibraryLog::Silence();
  server_options.listen = server_options.admin = server_options.http = "127.0.0.1:0";
  if (server_options.model_name.empty()) server_options.model_name = "fake";
  server_options.stall_timeout = absl::Milliseconds(500);
  auto started = Server::Start(std::move(server_options), engine, *tokenizer, metrics, *log);
  MEA_CHECK(started.ok());
  server = *std::move(started);
  channel = NewChannel();
  inference = v1::Inference::NewStub(channel);
  control = v1::Control::NewStub(channel);
}

void ServerFixture::AwaitLog(const std::string& event) const {
  const auto has_come = [&] {
    const std::vector<std::string> lines = log_lines.lines();
    return std::any_of(lines.begin(), lines.end(),
                       [&](const std::string& line) { return line.find(event) != line.npos; });
  };
  for (int i = 0; i < 4000 && !has_come(); ++i) absl::SleepFor(absl::Milliseconds(5));
  EXPECT_TRUE(has_come()) << event;
}

std::shared_ptr<grpc::Channel> ServerFixture::NewChannel() const {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection of its own
  return grpc::CreateCustomChannel(server->listen_address(), grpc::InsecureChannelCredentials(),
                                   arguments);
}

std::unique_ptr<grpc::ClientContext> ServerFixture::Context(absl::Duration timeout) const {
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(std::chrono::system_clock::now() + absl::ToChronoNanoseconds(timeout));
  return context;
}

StreamResult ServerFixture::Stream(const v1::GenerateRequest& request) const {
  const auto context = Context();
  return ReadAll(*inference->GenerateStream(context.get(), request));
}

grpc::Status ServerFixture::Generate(const v1::GenerateRequest& request,
                                     v1::GenerateResponse& response) const {
  return inference->Generate(Context().get(), request, &response);
}

grpc::Status ServerFixture::Try(const v1::GenerateRequest& request) const {
  v1::GenerateResponse response;
  return Generate(request, response);
}

grpc::health::v1::HealthCheckResponse::ServingStatus ServerFixture::Health(
    const std::string& service) const {
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(service);
  grpc::health::v1::HealthCheckResponse response;
  const grpc::Status status =
      grpc::health::v1::Health::NewStub(channel)->Check(Context().get(), request, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return response.status();
}

std::string ServerFixture::HttpGet(const std::string& path, std::string* head,
                                   const std::string& port) const {
  const auto address = ParseAddress(port.empty() ? server->admin_address() : port);
  MEA_CHECK(address.ok());
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in peer{};
  peer.sin_family = AF_INET;
  peer.sin_port = htons(static_cast<uint16_t>(address->port));
  inet_pton(AF_INET, address->host.c_str(), &peer.sin_addr);
  EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&peer), sizeof(peer)), 0);
  const std::string request =
      absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(send(fd, request.data(), request.size(), 0), std::ssize(request));
  std::string answer;
  char buffer[4096];
  for (ssize_t n; (n = recv(fd, buffer, sizeof(buffer), 0)) > 0;) answer.append(buffer, n);
  close(fd);
  const size_t split = answer.find("\r\n\r\n");
  EXPECT_NE(split, answer.npos) << answer;
  if (head != nullptr) *head = answer.substr(0, split);
  return split == answer.npos ? "" : answer.substr(split + 4);
}

std::vector<std::string> ServerFixture::StopAndReadLog() {
  server.reset();
  log.reset();
  return log_lines.lines();
}

v1::GenerateRequest TextRequest(const std::string& text, int max_tokens) {
  v1::GenerateRequest request;
  request.set_text(text);
  request.mutable_stopping()->set_max_tokens(max_tokens);
  return request;
}

StreamResult ReadAll(grpc::ClientReader<v1::GenerateStreamResponse>& reader) {
  StreamResult result;
  for (v1::GenerateStreamResponse event; reader.Read(&event);) {
    if (event.has_prompt()) {
      result.events += 'p';
      result.prompt = event.prompt();
    } else if (event.has_delta()) {
      result.events += 'd';
      ++result.num_deltas;
      const v1::Delta& delta = event.delta();
      result.text += delta.text();
      result.token_ids.insert(result.token_ids.end(), delta.token_ids().begin(),
                              delta.token_ids().end());
      result.logprobs.insert(result.logprobs.end(), delta.logprobs().begin(),
                             delta.logprobs().end());
    } else {
      result.events += 'f';
      result.finish = event.finish();
    }
  }
  result.status = reader.Finish();
  return result;
}

}  // namespace mea::testing
