#pragma once

#include <grpcpp/server_builder.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/address.h"
#include "server/open_connections.h"

namespace mea {

struct GrpcPortOptions {
  int max_connections = 0;  // more are closed at once
  // A message for the operator; seldom. Any thread.
  std::function<void(std::string_view message)> warn;
};

// Accepts gRPC's connections. gRPC's own listener stops for good, silently, at the first accept
// that fails, for example for want of a file descriptor. So a thread of ours accepts, bounds the
// number of connections, and hands them over.
class GrpcPort {
 public:
  // Listens; connections wait in the kernel until Start. `address` gets the real port. UNAVAILABLE
  // if it cannot be bound.
  static absl::StatusOr<std::unique_ptr<GrpcPort>> Listen(Address& address,
                                                          GrpcPortOptions options);
  ~GrpcPort();

  // Hands connections to `to` from now on; it comes from the server's builder. Call this after the
  // server has started.
  void Start(std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> to);
  // Closes that client's connection, with a warning. Any thread.
  void Cut(const std::string& peer) ABSL_LOCKS_EXCLUDED(mu_);
  // Stops accepting.
  void Stop();

 private:
  GrpcPort(int listener, int wake, std::string address, GrpcPortOptions options);

  void Run();
  bool AcceptSome();  // false: not again at once, descriptors are short
  void HandOver(int fd);
  void Warn(std::string_view what);

  const int listener_;
  const int wake_;  // an eventfd: readable when it is time to stop
  const std::string address_;
  const GrpcPortOptions options_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> to_;
  std::thread thread_;
  absl::Mutex mu_;
  OpenConnections connections_ ABSL_GUARDED_BY(mu_);
  absl::Time next_warning_ ABSL_GUARDED_BY(mu_) = absl::InfinitePast();
};

}  // namespace mea
