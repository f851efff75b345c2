// What routers are told of the prefix cache.
#include "server/kv_events/kv_events.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "server/kv_events/event_message.h"
#include "server/kv_events/zmq_publisher.h"
#include "tests/server/server_fixture.h"
#include "vllm/grpc/engine/vllm_engine.grpc.pb.h"

namespace mea::testing {
namespace {

using ::testing::ElementsAre;
using Json = nlohmann::json;
using Kind = PrefixEvent::Kind;
namespace common = ::smg::grpc::common;

PrefixEvent StoredEntry(int64_t entry, int64_t before, std::vector<int32_t> tokens,
                        std::string salt = "") {
  return {.entry = entry, .before = before, .tokens = std::move(tokens), .salt = std::move(salt)};
}

Json Read(const KvEvents::News& news) { return Json::from_msgpack(MessageOf(news).payload)[1]; }

struct EventsWorld {
  Json ReadNext() {
    const auto news = events.Next(last);
    return news ? Read(*news) : Json();
  }

  FakeEngine engine{{.automatic = false}};
  KvEvents events{engine};
  const std::shared_ptr<void> watch = events.Watch([] {});
  uint64_t last = 0;
};

TEST(KvEventsTest, MessagesAreThoseOfVllm) {
  EventsWorld w;
  EXPECT_EQ(w.ReadNext(), Json::parse(R"([["AllBlocksCleared"]])"));
  w.engine.TellPrefixObserver(
      {StoredEntry(1, 0, {1, 2}), StoredEntry(2, 1, {3, 4}), StoredEntry(3, 0, {5, 6})});
  const Json stored = w.ReadNext();
  ASSERT_EQ(stored.size(), 2u);  // a chain is one event
  EXPECT_EQ(stored[0][0], "BlockStored");
  EXPECT_EQ(stored[0][1].size(), 2u);
  EXPECT_TRUE(stored[0][2].is_null());
  EXPECT_EQ(stored[0][3], Json({1, 2, 3, 4}));
  EXPECT_EQ(stored[0][4], 2);
  w.engine.TellPrefixObserver({StoredEntry(4, 2, {7, 8}), {.kind = Kind::kRemoved, .entry = 3}});
  const Json changed = w.ReadNext();
  EXPECT_EQ(changed[0][2], stored[0][1][1]);  // its parent
  EXPECT_EQ(changed[1], Json({"BlockRemoved", stored[1][1], "GPU"}));
  EXPECT_TRUE(w.ReadNext().is_null());
}

TEST(KvEventsTest, AHashIsOfAllTokensBeforeItAndOfTheSalt) {
  const auto last_hash = [](std::vector<PrefixEvent> entries) {
    EventsWorld w;
    w.ReadNext();
    w.engine.TellPrefixObserver(std::move(entries));
    return w.ReadNext().back()[1].back().get<int64_t>();
  };
  const int64_t hash = last_hash({StoredEntry(1, 0, {1, 2}), StoredEntry(2, 1, {3, 4})});
  EXPECT_GT(hash, 0);
  EXPECT_EQ(last_hash({StoredEntry(7, 0, {1, 2}), StoredEntry(9, 7, {3, 4})}), hash);
  EXPECT_NE(last_hash({StoredEntry(1, 0, {1, 9}), StoredEntry(2, 1, {3, 4})}), hash);
  EXPECT_NE(last_hash({StoredEntry(1, 0, {1, 2}, "s"), StoredEntry(2, 1, {3, 4})}), hash);
  EXPECT_NE(last_hash({StoredEntry(1, 0, {3, 4})}), hash);
}

TEST(KvEventsTest, WhoMissedTooMuchGetsTheState) {
  EventsWorld w;
  w.ReadNext();
  w.engine.TellPrefixObserver({StoredEntry(1, 0, {1, 2})});
  for (int i = 0; i < KvEvents::kKeptBatches; ++i) {
    w.engine.TellPrefixObserver({StoredEntry(2 + i, 1 + i, {3, 4})});
    w.engine.TellPrefixObserver({{.kind = Kind::kRemoved, .entry = 1 + i}});
  }
  const uint64_t number = 2 + 2 * KvEvents::kKeptBatches;
  const auto news = w.events.Next(w.last);
  ASSERT_TRUE(news && std::holds_alternative<KvEvents::State>(*news));
  EXPECT_EQ(std::get<KvEvents::State>(*news).number, number);
  EXPECT_EQ(std::get<KvEvents::State>(*news).blocks.size(), 1u);
  EXPECT_EQ(w.last, number);
  const Json state = Read(*news);
  EXPECT_EQ(state[0], Json::array({"AllBlocksCleared"}));
  EXPECT_EQ(state[1][0], "BlockStored");
  uint64_t of_another_life = number + 77;
  EXPECT_TRUE(std::holds_alternative<KvEvents::State>(*w.events.Next(of_another_life)));
  uint64_t a_bit_late = number - KvEvents::kKeptBatches;
  EXPECT_TRUE(
      std::holds_alternative<std::shared_ptr<const KvEventBatch>>(*w.events.Next(a_bit_late)));
}

TEST(KvEventsTest, ASubscriberGetsTheStateThenBatchesThenTheEndOfTheServer) {
  ServerFixture f({.automatic = false});
  const auto stub = ::vllm::grpc::engine::VllmEngine::NewStub(f.channel);
  const auto subscribe = [&](grpc::ClientContext& context, uint64_t first = 0) {
    common::SubscribeKvEventsRequest request;
    request.set_start_sequence_number(first);
    return stub->SubscribeKvEvents(&context, request);
  };
  const auto context = f.Context();
  const auto reader = subscribe(*context);
  common::KvEventBatch batch;
  ASSERT_TRUE(reader->Read(&batch));
  EXPECT_EQ(batch.sequence_number(), 1u);
  EXPECT_EQ(batch.snapshot().count(), 1u);
  EXPECT_TRUE(batch.events(0).has_cleared());
  f.engine.TellPrefixObserver({StoredEntry(1, 0, {1, 2}, "s"), StoredEntry(2, 1, {3, 4})});
  ASSERT_TRUE(reader->Read(&batch));
  EXPECT_EQ(batch.sequence_number(), 2u);
  EXPECT_FALSE(batch.has_snapshot());
  ASSERT_EQ(batch.events_size(), 1);
  const common::KvBlocksStored& stored = batch.events(0).stored();
  EXPECT_FALSE(stored.has_parent_block_hash());
  EXPECT_EQ(stored.cache_salt(), "s");
  ASSERT_EQ(stored.blocks_size(), 2);
  EXPECT_THAT(stored.blocks(1).token_ids(), ElementsAre(3, 4));
  EXPECT_EQ(stored.blocks(1).block_size(), 2);

  const auto late_context = f.Context();
  const auto late = subscribe(*late_context);
  ASSERT_TRUE(late->Read(&batch));
  EXPECT_EQ(batch.snapshot().blocks(), 2u);
  EXPECT_EQ(batch.events_size(), 2);
  const auto resumed_context = f.Context();
  const auto resumed = subscribe(*resumed_context, 2);
  ASSERT_TRUE(resumed->Read(&batch));
  EXPECT_EQ(batch.sequence_number(), 2u);
  EXPECT_FALSE(batch.has_snapshot());

  ::smg::grpc::common::FlushCacheResponse flushed;
  ASSERT_TRUE(stub->FlushCache(f.Context().get(), {}, &flushed).ok());
  EXPECT_TRUE(flushed.success());
  for (const auto& each : {&reader, &late, &resumed}) {
    ASSERT_TRUE((*each)->Read(&batch));
    EXPECT_TRUE(batch.events(0).has_cleared());
  }
  late_context->TryCancel();
  EXPECT_EQ(late->Finish().error_code(), grpc::StatusCode::CANCELLED);
  f.server->Drain(Now());
  for (const auto& each : {&reader, &resumed}) {
    EXPECT_FALSE((*each)->Read(&batch));
    EXPECT_EQ((*each)->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  }
}

TEST(KvEventsTest, ARingOfLargeBatchesIsBoundedByItsTokens) {
  EventsWorld w;
  w.ReadNext();
  const std::vector<int32_t> tokens(KvEvents::kMaxKeptTokens / 4);
  for (int i = 0; i < 5; ++i) w.engine.TellPrefixObserver({StoredEntry(1 + i, 0, tokens)});
  uint64_t last = 2;
  EXPECT_TRUE(std::holds_alternative<std::shared_ptr<const KvEventBatch>>(*w.events.Next(last)));
  last = 1;
  EXPECT_TRUE(std::holds_alternative<KvEvents::State>(*w.events.Next(last)));
}

TEST(KvEventsTest, SubscribersAreBounded) {
  EventsWorld w;
  std::vector<std::shared_ptr<void>> held;
  for (size_t i = 0; i < KvEvents::kMaxSubscribers; ++i) {
    held.push_back(w.events.Subscribe([] {}).value());
  }
  const absl::Status refused = w.events.Subscribe([] {}).status();
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  held.pop_back();
  EXPECT_TRUE(w.events.Subscribe([] {}).ok());
}

TEST(KvEventsTest, WhichEndpointsAreBoundAndWhichOthersReach) {
  EXPECT_TRUE(BindsEndpoint("tcp://*:5557"));
  EXPECT_TRUE(BindsEndpoint("tcp://[::]:5557"));
  EXPECT_TRUE(BindsEndpoint("ipc:///tmp/events"));
  EXPECT_TRUE(BindsEndpoint("tcp://127.0.0.1:5557"));
  EXPECT_FALSE(BindsEndpoint("tcp://indexer:5557"));
  EXPECT_FALSE(IsLocalEndpoint("tcp://*:5557"));
  EXPECT_FALSE(IsLocalEndpoint("tcp://indexer:5557"));
  for (const char* of_others : {"tcp://0.0.0.0:*", "tcp://[::]:*", "tcp://10.0.0.5:*", "tcp://*:*",
                                "epgm://eth0;239.192.1.1:5555", "tipc://{5560,0,0}", "nonsense"}) {
    EXPECT_FALSE(IsLocalEndpoint(of_others)) << of_others;
  }
  EXPECT_TRUE(IsLocalEndpoint("tcp://127.0.0.1:*"));
  EXPECT_TRUE(IsLocalEndpoint("tcp://[::1]:5557"));
  EXPECT_TRUE(IsLocalEndpoint("ipc:///tmp/events"));
}

TEST(KvEventsTest, AnEndpointThatCannotBeHadIsOneLine) {
  EventsWorld w;
  const auto nonsense = ZmqPublisher::Start({.endpoint = "nonsense"}, w.events);
  EXPECT_TRUE(absl::IsInvalidArgument(nonsense.status())) << nonsense.status();
  const auto first = ZmqPublisher::Start({.endpoint = "tcp://127.0.0.1:*"}, w.events);
  ASSERT_TRUE(first.ok()) << first.status();
  const auto second = ZmqPublisher::Start({.endpoint = (*first)->endpoint()}, w.events);
  EXPECT_TRUE(absl::IsUnavailable(second.status())) << second.status();
}

}  // namespace
}  // namespace mea::testing
