#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace mea::testing {

// A connection that speaks just enough HTTP/2 (RFC 9113, and of RFC 7541 what no encoder needs) to
// do what gRPC's own clients hold themselves back from.
class RawHttp2 {
 public:
  using Headers = std::vector<std::pair<std::string, std::string>>;
  struct Frame {
    uint8_t type = kGoAway;  // the connection has ended
    uint8_t flags = 0;
    uint32_t stream = 0;
    std::string payload;
  };

  explicit RawHttp2(const std::string& server);
  ~RawHttp2();

  void Ping();
  // A whole unary call: `path` is "/mea.v1.Control/GetLoad".
  void Call(uint32_t stream, const std::string& path, const std::string& message,
            const Headers& headers = {});
  // Such a call with a header that stands there so many times, in one frame (RFC 7541, 6.2.1, 6.1).
  void CallRepeating(uint32_t stream, const std::string& path, const std::string& message,
                     const std::string& name, const std::string& value, int times);
  // What such a call begins with, followed at once by its reset. False where the server has closed.
  bool StartAndReset(uint32_t stream, const std::string& path);

  Frame Receive();
  // The next frame of such a type, or the end of the connection; settings are acknowledged.
  Frame ReceiveOf(uint8_t type);

  static constexpr uint8_t kData = 0, kHeaders = 1, kReset = 3, kSettings = 4, kPing = 6,
                           kGoAway = 7, kContinuation = 9;
  static constexpr uint8_t kAck = 1, kEndStream = 1, kEndHeaders = 4;

 private:
  static constexpr size_t kHeadBytes = 9;

  void SendCall(uint32_t stream, const std::string& message, const std::string& header_block);
  bool Send(const std::string& bytes);
  std::string ReceiveBytes(size_t count);

  const int fd_;
};

}  // namespace mea::testing
