#include "server/stats_log.h"

#include <string>

#include "absl/strings/str_format.h"
#include "server/ratio.h"

namespace mea {
namespace {

std::string PerSecond(int64_t before, int64_t now, absl::Duration elapsed) {
  return absl::StrFormat("%.1f",
                         Ratio(static_cast<double>(now - before), absl::ToDoubleSeconds(elapsed)));
}

std::string Percent(int64_t part, int64_t whole) {
  return absl::StrFormat("%.1f",
                         100 * Ratio(static_cast<double>(part), static_cast<double>(whole)));
}

}  // namespace

StatsLog::StatsLog(const Engine& engine, Log& log, absl::Duration interval, absl::Time now)
    : engine_(engine), log_(log), interval_(interval), last_time_(now), last_(engine.stats()) {}

void StatsLog::Look(absl::Time now) {
  const absl::Duration elapsed = now - last_time_;
  if (interval_ == absl::ZeroDuration() || elapsed < interval_) return;
  const EngineStats stats = engine_.stats();
  if (stats.num_steps != last_.num_steps || stats.num_running + stats.num_waiting > 0) {
    Write(stats, elapsed);
  }
  last_time_ = now;
  last_ = stats;
}

void StatsLog::Write(const EngineStats& stats, absl::Duration elapsed) {
  const KvCacheStats& kv = stats.kv;
  log_.Write(LogLevel::kInfo, "stats",
             {{"prompt_tokens_per_s", PerSecond(last_.prompt_tokens, stats.prompt_tokens, elapsed)},
              {"generation_tokens_per_s",
               PerSecond(last_.generation_tokens, stats.generation_tokens, elapsed)},
              {"running", stats.num_running},
              {"waiting", stats.num_waiting},
              {"kv_cache_used_percent", Percent(kv.used_pages, kv.num_pages)},
              {"prefix_hit_percent", Percent(kv.prefix_hits - last_.kv.prefix_hits,
                                             kv.prefix_queries - last_.kv.prefix_queries)}});
}

}  // namespace mea
