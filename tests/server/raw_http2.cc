#include "tests/server/raw_http2.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/address.h"

namespace mea::testing {
namespace {

constexpr size_t kMaxFrameBytes = 16384;

std::string BigEndian(uint32_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift);
  return bytes;
}

std::string ToBytes(uint8_t type, uint8_t flags, uint32_t stream, const std::string& payload) {
  std::string bytes = BigEndian(static_cast<uint32_t>(payload.size())).substr(1);
  bytes += static_cast<char>(type);
  bytes += static_cast<char>(flags);
  return bytes + BigEndian(stream) + payload;
}

// A string literal of HPACK, not Huffman coded.
std::string Literal(const std::string& text) {
  constexpr size_t kPrefix = 127;
  std::string bytes;
  if (text.size() < kPrefix) return static_cast<char>(text.size()) + text;
  bytes += static_cast<char>(kPrefix);
  size_t rest = text.size() - kPrefix;
  for (; rest >= 128; rest /= 128) bytes += static_cast<char>(rest % 128 + 128);
  return bytes + static_cast<char>(rest) + text;
}

std::string HeaderBlock(const std::string& path, const RawHttp2::Headers& more) {
  RawHttp2::Headers headers = {{":method", "POST"}, {":scheme", "http"},
                               {":path", path},     {":authority", "test"},
                               {"te", "trailers"},  {"content-type", "application/grpc"}};
  headers.insert(headers.end(), more.begin(), more.end());
  std::string block;
  for (const auto& [name, value] : headers) block += '\0' + Literal(name) + Literal(value);
  return block;
}

}  // namespace

RawHttp2::RawHttp2(const std::string& server) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
  const auto address = ParseAddress(server);
  sockaddr_in peer{};
  peer.sin_family = AF_INET;
  peer.sin_port = htons(static_cast<uint16_t>(address->port));
  inet_pton(AF_INET, address->host.c_str(), &peer.sin_addr);
  EXPECT_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&peer), sizeof(peer)), 0);
  Send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + ToBytes(kSettings, 0, 0, ""));
}

RawHttp2::~RawHttp2() { close(fd_); }

void RawHttp2::Ping() { Send(ToBytes(kPing, 0, 0, "12345678")); }

void RawHttp2::Call(uint32_t stream, const std::string& path, const std::string& message,
                    const Headers& headers) {
  SendCall(stream, message, HeaderBlock(path, headers));
}

void RawHttp2::CallRepeating(uint32_t stream, const std::string& path, const std::string& message,
                             const std::string& name, const std::string& value, int times) {
  constexpr char kIndexing = 0x40;
  constexpr char kNewestEntry = static_cast<char>(0x80 | 62);
  SendCall(stream, message,
           HeaderBlock(path, {}) + kIndexing + Literal(name) + Literal(value) +
               std::string(times - 1, kNewestEntry));
}

void RawHttp2::SendCall(uint32_t stream, const std::string& message, const std::string& block) {
  std::string bytes;
  for (size_t at = 0; at < block.size(); at += kMaxFrameBytes) {
    const bool last = at + kMaxFrameBytes >= block.size();
    bytes += ToBytes(at == 0 ? kHeaders : kContinuation, last ? kEndHeaders : 0, stream,
                     block.substr(at, kMaxFrameBytes));
  }
  const std::string body = '\0' + BigEndian(static_cast<uint32_t>(message.size())) + message;
  Send(bytes + ToBytes(kData, kEndStream, stream, body));
}

bool RawHttp2::StartAndReset(uint32_t stream, const std::string& path) {
  constexpr uint32_t kCancel = 8;
  return Send(ToBytes(kHeaders, kEndHeaders, stream, HeaderBlock(path, {})) +
              ToBytes(kReset, 0, stream, BigEndian(kCancel)));
}

RawHttp2::Frame RawHttp2::Receive() {
  const std::string head = ReceiveBytes(kHeadBytes);
  if (head.empty()) return {};
  const auto byte = [&](int i) { return static_cast<uint8_t>(head[i]); };
  Frame frame{.type = byte(3), .flags = byte(4)};
  for (int i = 5; i < 9; ++i) frame.stream = frame.stream << 8 | byte(i);
  frame.payload = ReceiveBytes(static_cast<size_t>(byte(0)) << 16 | byte(1) << 8 | byte(2));
  if (frame.type == kSettings && frame.flags != kAck) Send(ToBytes(kSettings, kAck, 0, ""));
  if (frame.type == kPing && frame.flags != kAck) Send(ToBytes(kPing, kAck, 0, frame.payload));
  return frame;
}

RawHttp2::Frame RawHttp2::ReceiveOf(uint8_t type) {
  for (;;) {
    Frame frame = Receive();
    if (frame.type == type || frame.type == kGoAway) return frame;
  }
}

bool RawHttp2::Send(const std::string& bytes) {
  size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t n = send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (n < 0) return false;
    sent += n;
  }
  return true;
}

std::string RawHttp2::ReceiveBytes(size_t count) {
  std::string bytes(count, '\0');
  return recv(fd_, bytes.data(), count, MSG_WAITALL) == std::ssize(bytes) ? bytes : "";
}

}  // namespace mea::testing
