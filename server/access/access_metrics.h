#pragma once

#include <prometheus/metric_family.h>

#include <string>
#include <vector>

#include "server/access/access.h"

namespace mea {

// Each key's usage, under its name in the key file.
void AppendAccessMetrics(const Access& access, const std::string& model_name,
                         std::vector<prometheus::MetricFamily>& families);

}  // namespace mea
