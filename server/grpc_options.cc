#include "server/grpc_options.h"

#include <grpcpp/grpcpp.h>

#include "server/limits.h"

namespace mea {
namespace {

constexpr int kKeepaliveTimeMs = 60'000;     // the server pings a silent client after this time
constexpr int kKeepaliveTimeoutMs = 20'000;  // and waits this long for the reply
constexpr int kMinPingIntervalMs = 5'000;    // clients may ping this often while nothing is sent

// Of one frame. More than this ends the whole connection, which a proxy may share between many
// clients; below it CheckMetadata refuses only the call.
constexpr int kMaxFrameMetadataBytes = 1 << 20;
constexpr int kMaxStreams = 128;             // concurrent calls of one connection
constexpr int kHandshakeTimeoutMs = 10'000;  // for the handshake before the first call
constexpr int kMaxIdleMs = 15 * 60'000;      // without a call; clients reconnect by themselves

}  // namespace

void SetGrpcOptions(grpc::ServerBuilder& builder) {
  const auto set = [&](const char* name, int value) { builder.AddChannelArgument(name, value); };
  builder.SetMaxReceiveMessageSize(static_cast<int>(kMaxRequestBytes));
  set(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveTimeMs);
  set(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  set(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  // A long unary call must survive its client's pings, however often they come.
  set(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kMinPingIntervalMs);
  set(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0);
  // A compressed message grows before its size is known: gRPC inflates a megabyte to a gigabyte.
  set(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, 1 << GRPC_COMPRESS_NONE);
  set(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
  set(GRPC_ARG_MAX_METADATA_SIZE, kMaxFrameMetadataBytes);
  set(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreams);
  set(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeTimeoutMs);
  set(GRPC_ARG_MAX_CONNECTION_IDLE_MS, kMaxIdleMs);
}

}  // namespace mea
