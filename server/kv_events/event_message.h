#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "server/kv_events/kv_events.h"

namespace mea {

// What is published of news: MessagePack of vLLM's KVEventBatch, [time, events, rank], each event
// an array that begins with its name.
struct EventMessage {
  uint64_t number = 0;
  std::string payload;
};
EventMessage MessageOf(const KvEvents::News& news);

// Eight bytes, the highest first.
std::string BigEndian(uint64_t number);
uint64_t FromBigEndian(std::string_view bytes);

}  // namespace mea
