#include "tests/e2e/served_model.h"

#include "kernels/check.h"

namespace mea::testing {

ServedModel::ServedModel(const std::string& model, EngineOptions options) {
  options.model_dir = MEA_SOURCE_DIR "/models/" + model;
  metrics_ = std::make_unique<Metrics>(MetricsOptions{.model_name = model});
  engine_ = StartEngine(options).value();
  tokenizer_ = Tokenizer::Load(options.model_dir + "/tokenizer.json").value();
  server_ = Server::Start({.listen = "127.0.0.1:0", .admin = "", .http = "", .model_name = model},
                          *engine_, *tokenizer_, *metrics_, log_)
                .value();
  channel_ = grpc::CreateChannel(server_->listen_address(), grpc::InsecureChannelCredentials());
  inference_ = v1::Inference::NewStub(channel_);
  control_ = v1::Control::NewStub(channel_);
}

v1::GetCacheStatsResponse ServedModel::CacheStats() {
  grpc::ClientContext context;
  v1::GetCacheStatsResponse response;
  MEA_CHECK(control_->GetCacheStats(&context, {}, &response).ok());
  return response;
}

v1::GetModelInfoResponse ServedModel::ModelInfo() {
  grpc::ClientContext context;
  v1::GetModelInfoResponse response;
  MEA_CHECK(control_->GetModelInfo(&context, {}, &response).ok());
  return response;
}

Streamed Stream(v1::Inference::Stub& stub, const v1::GenerateRequest& request,
                const std::function<void(grpc::ClientContext&, int num_deltas)>& on_delta) {
  grpc::ClientContext context;
  Streamed streamed;
  int num_deltas = 0;
  const auto reader = stub.GenerateStream(&context, request);
  for (v1::GenerateStreamResponse event; reader->Read(&event);) {
    if (event.has_finish()) streamed.finish = event.finish();
    if (!event.has_delta()) continue;
    streamed.text += event.delta().text();
    for (const int32_t id : event.delta().token_ids()) streamed.token_ids.push_back(id);
    for (const auto& entry : event.delta().logprobs()) streamed.logprobs.push_back(entry.logprob());
    if (on_delta != nullptr) on_delta(context, ++num_deltas);
  }
  streamed.status = reader->Finish();
  return streamed;
}

}  // namespace mea::testing
