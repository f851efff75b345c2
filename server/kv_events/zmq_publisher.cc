#include "server/kv_events/zmq_publisher.h"

#include <sys/eventfd.h>
#include <unistd.h>
#include <zmq.h>

#include <array>
#include <cerrno>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/status_macros.h"
#include "server/access/exposure.h"
#include "server/kv_events/event_message.h"

namespace mea {
namespace {

constexpr int kMaxParts = 4;               // of a request for a replay
constexpr size_t kMaxPartBytes = 1 << 10;  // of one of them
// What ends a replay in place of a number.
constexpr uint64_t kEndOfReplay = ~uint64_t{0};

absl::Status ZmqStatus(absl::StatusCode code, const char* flag, const std::string& endpoint) {
  return absl::Status(code, absl::StrCat(flag, " ", endpoint, ": ", zmq_strerror(zmq_errno())));
}

void SendPart(void* socket, std::string_view part, bool more) {
  zmq_send(socket, part.data(), part.size(), ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0));
}

// One message; nothing if it is none of a replay, or there is none.
std::optional<std::vector<std::string>> ReceiveParts(void* socket) {
  std::vector<std::string> parts;
  bool fits = true;
  for (int more = 1; more != 0;) {
    std::string part(kMaxPartBytes, '\0');
    const int size = zmq_recv(socket, part.data(), part.size(), ZMQ_DONTWAIT);
    if (size < 0) return std::nullopt;
    fits &= static_cast<size_t>(size) <= part.size() && parts.size() < kMaxParts;
    if (fits) {
      part.resize(size);
      parts.push_back(std::move(part));
    }
    size_t length = sizeof(more);
    zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &length);
  }
  if (!fits) parts.clear();
  return parts;
}

// "tcp://HOST:PORT" -> "HOST:PORT"; empty for what is not TCP.
std::string TcpAddress(const std::string& endpoint) {
  constexpr std::string_view kTcp = "tcp://";
  return endpoint.starts_with(kTcp) ? endpoint.substr(kTcp.size()) : "";
}

}  // namespace

bool BindsEndpoint(const std::string& endpoint) {
  const std::string address = TcpAddress(endpoint);
  if (address.empty()) return true;
  return address.starts_with("*") || address.starts_with("0.0.0.0:") ||
         address.starts_with("[::]") || IsLocalEndpoint(endpoint);
}

bool IsLocalEndpoint(const std::string& endpoint) {
  const std::string address = TcpAddress(endpoint);
  if (address.empty()) return endpoint.starts_with("ipc://");
  const std::string host = address.substr(0, address.rfind(':'));  // the port may be "*"
  return !host.empty() && host != "*" && IsOfThisMachine(host + ":0");
}

struct ZmqPublisher::WakeUp {
  ~WakeUp() {
    if (fd >= 0) close(fd);
  }
  void Ring() const { eventfd_write(fd, 1); }
  void Reset() const {
    eventfd_t count = 0;
    eventfd_read(fd, &count);
  }

  const int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
};

void ZmqPublisher::Closer::operator()(void* socket) const { zmq_close(socket); }
void ZmqPublisher::Terminator::operator()(void* context) const { zmq_ctx_term(context); }

ZmqPublisher::ZmqPublisher(KvEventsOptions options, KvEvents& events)
    : options_(std::move(options)),
      events_(events),
      context_(zmq_ctx_new()),
      wake_up_(std::make_shared<WakeUp>()) {}

absl::StatusOr<std::unique_ptr<ZmqPublisher>> ZmqPublisher::Start(KvEventsOptions options,
                                                                  KvEvents& events) {
  std::unique_ptr<ZmqPublisher> publisher(new ZmqPublisher(std::move(options), events));
  MEA_RETURN_IF_ERROR(publisher->Open());
  ZmqPublisher* self = publisher.get();
  publisher->thread_ = std::thread([self] { self->Run(); });
  publisher->watch_ = events.Watch([wake_up = publisher->wake_up_] { wake_up->Ring(); });
  return publisher;
}

absl::Status ZmqPublisher::Open() {
  if (wake_up_->fd < 0 || context_ == nullptr) {
    return absl::UnavailableError(absl::StrCat(kPublishFlag, ": no descriptors are left"));
  }
  MEA_ASSIGN_OR_RETURN(publisher_, OpenSocket(ZMQ_PUB, kPublishFlag, options_.endpoint,
                                              BindsEndpoint(options_.endpoint), endpoint_));
  if (options_.replay.empty()) return absl::OkStatus();
  MEA_ASSIGN_OR_RETURN(replay_, OpenSocket(ZMQ_ROUTER, kReplayFlag, options_.replay, /*binds=*/true,
                                           replay_endpoint_));
  return absl::OkStatus();
}

absl::StatusOr<ZmqPublisher::Socket> ZmqPublisher::OpenSocket(int type, const char* flag,
                                                              const std::string& endpoint,
                                                              bool binds,
                                                              std::string& real_endpoint) {
  Socket socket(zmq_socket(context_.get(), type));
  if (socket == nullptr) return ZmqStatus(absl::StatusCode::kUnavailable, flag, endpoint);
  const int no_linger = 0;
  zmq_setsockopt(socket.get(), ZMQ_LINGER, &no_linger, sizeof(no_linger));
  // As on the other ports, "0.0.0.0" is IPv4 alone.
  const int ipv6 = !binds || endpoint.find('[') != endpoint.npos ? 1 : 0;
  zmq_setsockopt(socket.get(), ZMQ_IPV6, &ipv6, sizeof(ipv6));
  const int most = KvEvents::kKeptBatches + 1;  // messages that wait for one reader: a whole replay
  zmq_setsockopt(socket.get(), ZMQ_SNDHWM, &most, sizeof(most));
  const int64_t largest = kMaxPartBytes;  // of what others send; more ends their connection
  zmq_setsockopt(socket.get(), ZMQ_MAXMSGSIZE, &largest, sizeof(largest));
  const int rc = binds ? zmq_bind(socket.get(), endpoint.c_str())
                       : zmq_connect(socket.get(), endpoint.c_str());
  if (rc != 0) {
    const bool is_taken = zmq_errno() == EADDRINUSE || zmq_errno() == EADDRNOTAVAIL;
    return ZmqStatus(is_taken ? absl::StatusCode::kUnavailable : absl::StatusCode::kInvalidArgument,
                     flag, endpoint);
  }
  std::array<char, 256> name{};
  size_t length = name.size();
  zmq_getsockopt(socket.get(), ZMQ_LAST_ENDPOINT, name.data(), &length);
  real_endpoint = name.data();
  return socket;
}

ZmqPublisher::~ZmqPublisher() {
  watch_.reset();
  if (thread_.joinable()) {
    stopping_ = true;
    wake_up_->Ring();
    thread_.join();
  }
}

void ZmqPublisher::Run() {
  while (!stopping_) {
    std::array<zmq_pollitem_t, 2> items = {
        {{nullptr, wake_up_->fd, ZMQ_POLLIN, 0}, {replay_.get(), 0, ZMQ_POLLIN, 0}}};
    zmq_poll(items.data(), replay_ ? 2 : 1, -1);
    wake_up_->Reset();
    Publish();
    if (items[1].revents != 0) AnswerReplay();
  }
}

void ZmqPublisher::Publish() {
  while (const auto news = events_.Next(last_)) {
    const EventMessage message = MessageOf(*news);
    SendPart(publisher_.get(), options_.topic, /*more=*/true);
    SendPart(publisher_.get(), BigEndian(message.number), /*more=*/true);
    SendPart(publisher_.get(), message.payload, /*more=*/false);
  }
}

void ZmqPublisher::AnswerReplay() {
  const auto request = ReceiveParts(replay_.get());
  // Who asks, an empty part, the first number wanted.
  if (!request || request->size() != 3 || request->back().size() != sizeof(uint64_t)) return;
  const auto send = [&](uint64_t number, std::string_view payload) {
    SendPart(replay_.get(), request->front(), /*more=*/true);
    SendPart(replay_.get(), "", /*more=*/true);
    SendPart(replay_.get(), BigEndian(number), /*more=*/true);
    SendPart(replay_.get(), payload, /*more=*/false);
  };
  const uint64_t first = FromBigEndian(request->back());
  uint64_t last = first == 0 ? 0 : first - 1;
  while (const auto news = events_.Next(last)) {
    const EventMessage message = MessageOf(*news);
    send(message.number, message.payload);
  }
  send(kEndOfReplay, "");
}

}  // namespace mea
