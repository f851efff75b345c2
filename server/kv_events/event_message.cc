#include "server/kv_events/event_message.h"

#include <nlohmann/json.hpp>
#include <string_view>

namespace mea {
namespace {

using Json = nlohmann::json;

constexpr char kMedium[] = "GPU";  // the engine's own cache, whatever the device

Json ToJson(const KvBlocksStored& stored) {
  Json hashes = Json::array();
  Json token_ids = Json::array();
  for (const auto& block : stored.blocks) {
    hashes.push_back(block->hash);
    for (const int32_t id : block->token_ids) token_ids.push_back(id);
  }
  const KvBlock& first = *stored.blocks.front();
  const Json parent = first.parent ? Json(*first.parent) : Json();
  const Json no_lora;
  return {"BlockStored", hashes, parent, token_ids, first.token_ids.size(), no_lora, kMedium};
}

Json ToJson(const KvBlocksRemoved& removed) { return {"BlockRemoved", removed.hashes, kMedium}; }

// Else {"x"} would be a string.
Json ToJson(const KvBlocksCleared&) { return Json::array({"AllBlocksCleared"}); }

std::string Payload(double time_s, std::span<const KvEvent> events) {
  Json list = Json::array();
  for (const KvEvent& event : events) {
    list.push_back(std::visit([](const auto& e) { return ToJson(e); }, event));
  }
  const std::vector<uint8_t> bytes = Json::to_msgpack(Json::array({time_s, list, 0}));
  return {bytes.begin(), bytes.end()};
}

}  // namespace

EventMessage MessageOf(const KvEvents::News& news) {
  if (const auto* batch = std::get_if<std::shared_ptr<const KvEventBatch>>(&news)) {
    return {(*batch)->number, Payload((*batch)->time_s, (*batch)->events)};
  }
  const auto& state = std::get<KvEvents::State>(news);
  std::vector<KvEvent> events = ToEvents(state.blocks);
  events.insert(events.begin(), KvBlocksCleared{});
  return {state.number, Payload(state.time_s, events)};
}

std::string BigEndian(uint64_t number) {
  std::string bytes(sizeof(number), '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(number >> (56 - 8 * i));
  return bytes;
}

uint64_t FromBigEndian(std::string_view bytes) {
  uint64_t number = 0;
  for (const char byte : bytes) number = number << 8 | static_cast<unsigned char>(byte);
  return number;
}

}  // namespace mea
