#pragma once

#include "absl/time/time.h"
#include "engine/engine.h"
#include "server/log.h"

namespace mea {

// The event "stats", once per interval in which the engine worked: throughput since the last look
// that wrote or found nothing to write, the load now, the cache. One thread.
class StatsLog {
 public:
  // ZeroDuration: never. `engine` and `log` outlive it.
  StatsLog(const Engine& engine, Log& log, absl::Duration interval, absl::Time now);

  // Called now and then.
  void Look(absl::Time now);

 private:
  void Write(const EngineStats& stats, absl::Duration elapsed);

  const Engine& engine_;
  Log& log_;
  const absl::Duration interval_;
  absl::Time last_time_;
  EngineStats last_;
};

}  // namespace mea
