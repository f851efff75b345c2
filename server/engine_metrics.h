#pragma once

#include <prometheus/metric_family.h>

#include <string>
#include <vector>

#include "engine/engine.h"

namespace mea {

// Cache memory, load and totals, as the engine has them at this moment.
void AppendEngineMetrics(const Engine& engine, const std::string& model_name,
                         std::vector<prometheus::MetricFamily>& families);

// vllm:cache_config_info.
void AppendVllmCacheConfig(const Engine& engine, const std::string& model_name,
                           std::vector<prometheus::MetricFamily>& families);

}  // namespace mea
