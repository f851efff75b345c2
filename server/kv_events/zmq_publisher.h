#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "server/kv_events/kv_events.h"

namespace mea {

struct KvEventsOptions {
  std::string endpoint;  // tcp://HOST:PORT, ...; empty: nothing is published
  std::string topic;     // "kv@POD@MODEL"
  std::string replay;    // endpoint for those who missed something; empty: none
};

inline constexpr char kPublishFlag[] = "--kv-events";
inline constexpr char kReplayFlag[] = "--kv-events-replay";

// Whether the endpoint is one of a socket that others connect to: hosts of all interfaces, as vLLM
// has it, and those of this machine, to which vLLM connects. Others are connected to:
// tcp://indexer:5557.
bool BindsEndpoint(const std::string& endpoint);
// Whether an endpoint of ours can only be reached from this machine: loopback addresses and ipc://.
bool IsLocalEndpoint(const std::string& endpoint);

// Publishes KvEvents over ZeroMQ as vLLM does: [topic, number, MessagePack of the batch], and
// answers replays. Owns its sockets and the one thread that uses them; a subscriber that does not
// read loses messages and holds up nobody.
class ZmqPublisher {
 public:
  // INVALID_ARGUMENT for an endpoint that is none, UNAVAILABLE for one that cannot be had.
  static absl::StatusOr<std::unique_ptr<ZmqPublisher>> Start(KvEventsOptions options,
                                                             KvEvents& events);
  ~ZmqPublisher();

  // With the real port.
  const std::string& endpoint() const { return endpoint_; }
  const std::string& replay_endpoint() const { return replay_endpoint_; }

 private:
  struct Closer {
    void operator()(void* socket) const;
  };
  struct Terminator {
    void operator()(void* context) const;
  };
  // What whoever has news writes to. It lives until the last of them has done so.
  struct WakeUp;
  using Socket = std::unique_ptr<void, Closer>;

  ZmqPublisher(KvEventsOptions options, KvEvents& events);
  absl::Status Open();
  absl::StatusOr<Socket> OpenSocket(int type, const char* flag, const std::string& endpoint,
                                    bool binds, std::string& real_endpoint);
  void Run();
  void Publish();
  void AnswerReplay();

  const KvEventsOptions options_;
  KvEvents& events_;
  std::string endpoint_;
  std::string replay_endpoint_;
  std::unique_ptr<void, Terminator> context_;
  Socket publisher_;
  Socket replay_;
  std::shared_ptr<WakeUp> wake_up_;
  std::atomic<bool> stopping_ = false;
  uint64_t last_ = 0;  // published; of the thread
  std::shared_ptr<void> watch_;
  std::thread thread_;
};

}  // namespace mea
