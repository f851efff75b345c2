#include "server/reset_watch.h"

#include <grpcpp/server_context.h>

#include <string_view>

namespace mea {
namespace {

using grpc::experimental::InterceptionHookPoints;
using grpc::experimental::Interceptor;
using grpc::experimental::InterceptorBatchMethods;
using grpc::experimental::ServerRpcInfo;

class CallWatch final : public Interceptor {
 public:
  CallWatch(ResetGuard& guard, const grpc::ServerContextBase& context)
      : guard_(guard), context_(context) {}

  void Intercept(InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::POST_RECV_CLOSE) &&
        context_.IsCancelled()) {
      guard_.Count(context_.peer());
    }
    methods->Proceed();
  }

 private:
  ResetGuard& guard_;
  const grpc::ServerContextBase& context_;
};

class CallWatches final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit CallWatches(ResetGuard& guard) : guard_(guard) {}

  // Ours count for themselves, those that came without a message: cancelling is their clients'
  // right. None of them streams both ways, as methods that there are not seem to.
  Interceptor* CreateServerInterceptor(ServerRpcInfo* call) override {
    const std::string_view method = call->method();
    const bool is_ours =
        (method.starts_with("/mea.v1.") || method.starts_with("/vllm.grpc.engine.")) &&
        call->type() != ServerRpcInfo::Type::BIDI_STREAMING;
    return is_ours ? nullptr : new CallWatch(guard_, *call->server_context());
  }

 private:
  ResetGuard& guard_;
};

}  // namespace

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> WatchResets(
    ResetGuard& guard) {
  return std::make_unique<CallWatches>(guard);
}

}  // namespace mea
